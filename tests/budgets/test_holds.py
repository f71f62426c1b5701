"""Holds: how far a sliding one reaches, what identifies one, and what an overrun is."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.budgets.holds import HoldState, OverrunReason, hold_id_of, overrun_of
from metering.credits.booking import Booking, BookingKind
from tests.builders.budgets import asked, sliding

AT = datetime(2026, 11, 23, 15, tzinfo=UTC)


def booking(kind: BookingKind = BookingKind.CHARGE, usd_cents: str = "5", *, failed_open: bool = False) -> Booking:
    return Booking(
        customer_id="acme",
        entry_id="ch_1",
        stream_id="s",
        kind=kind,
        usd_cents=Decimal(usd_cents),
        booked_at=AT,
        filed_at=AT,
        period="2026-11",
        failed_open=failed_open,
    )


@given(slice_=st.integers(1, 500), steps=st.lists(st.integers(0, 5_000), max_size=20))
def test_a_sliding_hold_is_never_less_than_half_a_slice_ahead_and_never_shrinks(
    slice_: int, steps: list[int]
) -> None:
    request = sliding(slice_output_tokens=slice_)
    covered = request.covered_output_tokens
    assert covered == slice_
    for delivered in steps:
        longer = request.covered_after(delivered, covered=covered)
        assert longer >= covered
        assert 2 * (longer - delivered) >= slice_ or (longer == covered and 2 * (covered - delivered) >= slice_)
        assert (longer - covered) % slice_ == 0
        assert longer == covered or 2 * (longer - slice_ - delivered) < slice_
        covered = longer


def test_a_hold_reaches_no_further_than_the_most_output() -> None:
    request = sliding(slice_output_tokens=100, max_output_tokens=130)
    assert request.covered_output_tokens == 100
    assert request.covered_after(90, covered=100) == 130
    assert request.covered_after(500, covered=130) == 130
    assert sliding(slice_output_tokens=100, max_output_tokens=60).covered_output_tokens == 60
    assert asked(max_output_tokens=7).covered_after(500, covered=7) == 7


def test_equal_requests_have_one_fingerprint_and_one_id() -> None:
    assert asked().fingerprint == asked().fingerprint
    assert asked().fingerprint != asked(max_output_tokens=99).fingerprint
    assert hold_id_of(customer_id="a", stream_id="b") != hold_id_of(customer_id="ab", stream_id="")


@pytest.mark.parametrize(
    ("state", "held", "entry", "beyond"),
    [
        (HoldState.OPEN, "5", booking(), None),
        (HoldState.OPEN, "3", booking(), ("2", OverrunReason.COUNTED_MORE)),
        (HoldState.EXPIRED, "9", booking(), ("5", OverrunReason.HOLD_EXPIRED)),
        (HoldState.RELEASED, "9", booking(), ("5", OverrunReason.NO_HOLD)),
        (None, "0", booking(), ("5", OverrunReason.NO_HOLD)),
        (None, "0", booking(failed_open=True), ("5", OverrunReason.FAILED_OPEN)),
        (HoldState.SETTLED, "9", booking(BookingKind.LATE_FACTS, "1"), ("1", OverrunReason.LATE_USAGE)),
        (HoldState.SETTLED, "9", booking(BookingKind.RERATE, "1"), ("1", OverrunReason.RERATED)),
        (HoldState.SETTLED, "9", booking(BookingKind.LATE_FACTS, "-1"), None),
        (None, "0", booking(BookingKind.MANUAL, "1"), None),
        (None, "0", booking(usd_cents="0"), None),
    ],
)
def test_what_is_booked_beyond_a_hold_has_one_reason(
    state: HoldState | None, held: str, entry: Booking, beyond: tuple[str, OverrunReason] | None
) -> None:
    found = overrun_of(entry, held=Decimal(held), state=state)
    assert (None if found is None else (str(found.usd_cents), found.reason)) == beyond
