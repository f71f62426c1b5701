"""Entries: adjustments book differences, so that all that was ever booked sums to the newest bill."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from metering.ledger.entries import AdjustmentReason, adjust, adjustment_id_of, charge_id_of, difference
from metering.streams.bill import Bill
from tests.builders.bills import bill_of
from tests.builders.events import T0

# None: for now nothing may be billed.
BILLS = st.none() | st.lists(st.decimals(0, 10**6, places=6).map(str), max_size=3).map(
    lambda cents: bill_of(*cents)
)


def amount(bill: Bill | None) -> Fraction:
    return Fraction(bill.usd_cents) if bill else Fraction(0)


@given(st.lists(BILLS, min_size=1, max_size=8))
def test_over_any_run_of_bills_the_bookings_sum_to_the_newest(bills: list[Bill | None]) -> None:
    booked, before = Fraction(0), None
    for after in bills:
        booked += Fraction(difference(before=before, after=after))
        before = after
        assert booked == amount(after)


def test_an_adjustment_carries_the_new_bill_and_is_of_the_streams_charge() -> None:
    before, after = bill_of("3"), bill_of("1.5")
    made = adjust(
        customer_id="acme",
        stream_id="s",
        revision=2,
        before=before,
        after=after,
        reason=AdjustmentReason.RERATE,
        booked_at=T0,
        period="2026-11",
    )
    assert made.charge_id == charge_id_of(customer_id="acme", stream_id="s")
    assert made.adjustment_id == adjustment_id_of(customer_id="acme", stream_id="s", revision=2)
    assert (str(made.usd_cents), made.bill, made.reason) == ("-1.5", after, AdjustmentReason.RERATE)


def test_ids_follow_from_the_stream_and_its_revision() -> None:
    streams = [("acme", "s"), ("acme", "t"), ("bolt", "s")]
    charges = {charge_id_of(customer_id=customer, stream_id=stream) for customer, stream in streams}
    adjustments = {
        adjustment_id_of(customer_id=customer, stream_id=stream, revision=revision)
        for customer, stream in streams
        for revision in (1, 2)
    }
    assert (len(charges), len(adjustments)) == (3, 6)
    assert charge_id_of(customer_id="acme", stream_id="s") in charges
