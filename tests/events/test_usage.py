"""Usage: counters that are known or unknown, and what fills those that are unknown."""

from hypothesis import given
from hypothesis import strategies as st

from metering.events.usage import COUNTER_OF_KIND, COUNTERS, TIMED_COUNTERS, TIMED_KINDS, Usage, UsageKind

COUNT = st.none() | st.integers(0, 2**53 - 1)
SECONDS = st.none() | st.decimals(0, 10**9, places=3)
USAGES = st.builds(Usage, **{name: SECONDS if name in TIMED_COUNTERS else COUNT for name in COUNTERS})


@given(USAGES, COUNT, COUNT, COUNT)
def test_only_what_is_unknown_is_filled(
    usage: Usage, input_tokens: int | None, output_tokens: int | None, reasoning: int | None
) -> None:
    filled = usage.filled(
        input_tokens=input_tokens, output_tokens=output_tokens, reasoning_output_tokens=reasoning
    )
    given_counts = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "reasoning_output_tokens": reasoning,
    }
    for name in COUNTERS:
        known = getattr(usage, name)
        assert getattr(filled, name) == (known if known is not None else given_counts.get(name))


@given(USAGES)
def test_the_known_counters_are_those_that_are_not_unknown(usage: Usage) -> None:
    assert usage.known() == {
        name: count for name, count in zip(COUNTERS, usage.counts(), strict=True) if count is not None
    }
    assert Usage(**usage.known()) == usage


@given(USAGES)
def test_each_kind_of_tokens_has_a_counter_of_its_own(usage: Usage) -> None:
    assert set(COUNTER_OF_KIND) == set(UsageKind) - {UsageKind.REQUEST, UsageKind.UPSTREAM_COST}
    assert sorted(COUNTER_OF_KIND.values()) == sorted(COUNTERS)
    for kind, name in COUNTER_OF_KIND.items():
        assert usage.count(kind) == getattr(usage, name)


def test_seconds_are_the_kinds_that_are_not_counted() -> None:
    assert {COUNTER_OF_KIND[kind] for kind in TIMED_KINDS} == TIMED_COUNTERS
