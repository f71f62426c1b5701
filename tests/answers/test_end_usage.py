"""The provider's usage is believed where it can be right; otherwise the gateway's own count is billed."""

from decimal import Decimal
from typing import Any

import pytest

from metering.answers.end_usage import Counted, end_usage
from metering.events.events import UsageSource

_PROVIDER, _COUNT, _ESTIMATE = UsageSource.PROVIDER, UsageSource.GATEWAY_COUNT, UsageSource.ESTIMATE


def _counted(output: int, source: UsageSource = _COUNT, **more: Any) -> Counted:
    return Counted(input_tokens=17, output_tokens=output, reasoning_tokens=0, source=source, **more)


@pytest.mark.parametrize(
    ("reported", "is_current", "output", "expected", "source"),
    [
        ((17, 520), True, 20, (17, 520), _PROVIDER),
        ((17, 19), True, 20, (17, 19), _PROVIDER),
        ((17, 0), False, 0, (17, 0), _PROVIDER),
        ((0, 0), False, 20, (17, 20), _COUNT),
        ((17, 0), True, 20, (17, 20), _COUNT),
        ((17, None), False, 20, (17, 20), _COUNT),
        ((None, 20), True, 20, (17, 20), _COUNT),
        ((0, 20), True, 20, (17, 20), _COUNT),
        ((20019, 1), False, 6, (20019, 6), _COUNT),
        ((20019, 500), False, 6, (20019, 500), _COUNT),
        ((None, None), False, 20, (17, 20), _COUNT),
    ],
)
def test_a_completed_stream(
    reported: tuple[int | None, int | None], is_current: bool, output: int, expected: tuple[int, int], source: Any
) -> None:
    known = {
        name: count
        for name, count in zip(("input_tokens", "output_tokens"), reported, strict=True)
        if count is not None
    }
    chosen = end_usage(reported=known, is_current=is_current, counted=_counted(output), completed=True)
    assert chosen.counters is not None
    assert (chosen.counters["input_tokens"], chosen.counters["output_tokens"]) == expected
    assert chosen.source is source
    assert chosen.disbelieved is (bool(known) and source is not _PROVIDER)


def test_nothing_is_billed_when_nothing_was_delivered_or_reported() -> None:
    for reported in ({}, {"input_tokens": 0, "output_tokens": 0}):
        chosen = end_usage(reported=reported, is_current=False, counted=_counted(0), completed=False)
        assert chosen.as_usage() is None
        assert chosen.source is None


def test_input_that_the_provider_reported_is_billed_when_the_client_left_before_the_output() -> None:
    chosen = end_usage(reported={"input_tokens": 900}, is_current=False, counted=_counted(0), completed=False)
    assert chosen.counters == {"input_tokens": 900, "output_tokens": 0}


def test_what_cannot_be_read_is_an_estimate_also_with_the_providers_input() -> None:
    counted = _counted(20, _ESTIMATE, has_unreadable=True)
    chosen = end_usage(
        reported={"input_tokens": 17, "output_tokens": 1}, is_current=False, counted=counted, completed=False
    )
    assert chosen.source is _ESTIMATE


def test_the_cache_fits_into_an_input_that_was_counted() -> None:
    chosen = end_usage(
        reported={"cache_read_input_tokens": 40}, is_current=False, counted=_counted(3), completed=True
    )
    assert chosen.counters is not None
    assert chosen.counters["input_tokens"] == 40


def test_the_upstreams_cost_is_told_beside_the_counters() -> None:
    reported: dict[str, Any] = {"input_tokens": 17, "output_tokens": 20, "upstream_cost_usd": Decimal("0.00014")}
    chosen = end_usage(reported=reported, is_current=True, counted=_counted(20), completed=True)
    usage = chosen.as_usage()
    assert usage is not None
    assert usage.known() == {"input_tokens": 17, "output_tokens": 20}
    assert chosen.upstream_cost_usd == Decimal("0.00014")


def test_a_cost_alone_is_no_usage() -> None:
    chosen = end_usage(
        reported={"upstream_cost_usd": Decimal(1)}, is_current=False, counted=_counted(0), completed=False
    )
    assert (chosen.as_usage(), chosen.upstream_cost_usd) == (None, None)
