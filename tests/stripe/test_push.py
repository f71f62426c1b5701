"""What is pushed: the same whole cents in at most ten lines, with marks by which it is known again."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.usage import UsageKind
from metering.months.line_rates import LineRate
from metering.stripe.push import (
    AT_STRIPE,
    INVOICE_MARK,
    MAX_LINES,
    UNDER_WAY,
    Mark,
    PushState,
    mark_of,
    wanted_invoice,
)
from tests.builders.snapshots import invoice_of, snapshot_of, wanted_of

CENTS = st.lists(st.integers(-500, 10_000), min_size=1, max_size=25)


@given(CENTS)
def test_the_lines_at_stripe_add_up_to_what_is_billed_and_are_at_most_ten(cents: list[int]) -> None:
    wanted = wanted_of(*cents)
    assert sum(line.amount for line in wanted.lines) == wanted.billed_cents == sum(cents)
    assert len(wanted.lines) <= MAX_LINES
    assert len({line.mark for line in wanted.lines}) == len(wanted.lines)
    if sum(bool(each) for each in cents) <= MAX_LINES:
        assert [line.amount for line in wanted.lines] == [each for each in cents if each]


def test_the_smallest_lines_are_put_together_and_the_others_keep_their_order() -> None:
    cents = [5, 900, 800, 4, 700, 600, 500, 400, 300, 200, -150, 3]
    wanted = wanted_of(*cents)
    assert [line.amount for line in wanted.lines] == [900, 800, 700, 600, 500, 400, 300, 200, -150, 12]
    last = wanted.lines[-1]
    assert last.description == "3 further lines, listed on the statement"
    assert last.starts_at == datetime(2026, 11, 1, 0, tzinfo=UTC)
    assert last.ends_at == datetime(2026, 11, 2, 11, tzinfo=UTC)


def test_a_line_keeps_its_mark_from_push_to_push() -> None:
    one, other = wanted_of(10, 20), wanted_of(11, 20, 30)
    assert [line.mark for line in one.lines] == [line.mark for line in other.lines[:2]]


def test_what_is_pushed_says_whose_month_and_statement_it_is() -> None:
    wanted = wanted_invoice(
        invoice=invoice_of(100), number="2026-11-000007", environment="prod", stripe_customer_id="cus_9"
    )
    assert (wanted.stripe_customer_id, wanted.period) == ("cus_9", "2026-11")
    assert wanted.metadata == {
        "metering_invoice": str(wanted.mark),
        "metering_period": "2026-11",
        "metering_customer": "acme",
        "metering_statement": "2026-11-000007",
    }
    assert wanted.description == f"LLM usage 2026-11, statement 2026-11-000007 ({wanted.mark})"


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True), st.integers(0, 99))
def test_an_invoice_is_known_again_by_its_metadata_or_by_its_description_alone(
    environment: str, adjustment: int
) -> None:
    mark = Mark(environment=environment, invoice_id=invoice_of(1).invoice_id, adjustment=adjustment)
    wanted = wanted_of(100)
    by_metadata = snapshot_of(wanted, metadata={INVOICE_MARK: str(mark)}, description=None)
    by_description = snapshot_of(wanted, metadata={}, description=f"LLM usage ({mark})")
    assert mark_of(by_metadata) == mark == mark_of(by_description)


@pytest.mark.parametrize("text", [None, "", "an invoice of another system", "tests/inv_123", "inv_" + "0" * 24])
def test_what_bears_no_mark_is_not_ours(text: str | None) -> None:
    metadata = {} if text is None else {INVOICE_MARK: text}
    assert mark_of(snapshot_of(wanted_of(100), metadata=metadata, description=text)) is None


def test_a_state_is_at_stripe_under_way_or_waits_for_something_else() -> None:
    assert not AT_STRIPE & UNDER_WAY
    waiting = {PushState.DEFERRED, PushState.UNLINKED, PushState.STUCK}
    assert set(PushState) == AT_STRIPE | UNDER_WAY | waiting
    assert {PushState.PENDING, PushState.UNKNOWN, PushState.FINALIZING} <= UNDER_WAY


def test_a_line_says_quantity_times_rate_as_far_as_it_fits_and_bills_the_same() -> None:
    invoice = invoice_of(70, 30)
    key = invoice.lines[0].sum.line_key
    rates = {
        key: [
            LineRate(
                kind=UsageKind.INPUT, quantity=1_204, usd_per_million=Decimal(number), usd_cents=Decimal(number)
            )
            for number in range(1, 30)
        ]
    }
    given = {"invoice": invoice, "number": "n", "environment": "tests", "stripe_customer_id": "cus_1"}
    plain, told = wanted_invoice(**given), wanted_invoice(**given, rates=rates)  # type: ignore[arg-type]
    first = told.lines[0].description
    assert first.startswith(
        f"{plain.lines[0].description}. Input tokens 1,204 x $1.00 per 1M; Input tokens 1,204 x $2"
    )
    assert first.endswith("; more rates on the statement")
    assert len(first) <= 500
    assert told.lines[1] == plain.lines[1]
    assert [(line.mark, line.amount) for line in told.lines] == [(line.mark, line.amount) for line in plain.lines]
