"""A receipt: redone by its own events, card and bookings; whatever is forged in it is found by its check."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec import structs

from metering.audit.receipt import FORMAT, Receipt, ReceiptCard, ReceiptDraw, ReceiptEntry, verify
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rates import Rate, RateCard, id_by_content
from metering.prices.rating import rate_by_card
from metering.streams.stream import Delivered
from tests.builders.bills import bill_of, charge_line
from tests.builders.events import T0, end, start

USAGE, CARD, RULE, LINES, BOOKINGS, DRAWS = (
    "the events give the billed usage",
    "the rate card has the id of its content and was in force",
    "the rate card has a rule for the model's name",
    "usage x rates gives the lines",
    "the bookings sum to the cost",
    "the grants pay no more than the cost",
)


def a_card() -> RateCard:
    plain = RateCard(
        rate_card_id="",
        provider="anthropic",
        model="claude-opus-4-7",
        effective_from=T0 - timedelta(days=9),
        rates=(
            Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(5)),
            Rate(kind=UsageKind.OUTPUT, usd_per_million=Decimal(25)),
        ),
        names={"starts_with": "claude-opus-4"},
    )
    return replace(plain, rate_card_id=id_by_content(plain))


def entry(cents: str, *, number: int = 0, note: str | None = None) -> ReceiptEntry:
    return ReceiptEntry(
        id=f"e{number}", booked_at=T0, period="2026-11", reason="r", note=note, usd_cents=Decimal(cents)
    )


def genuine() -> Receipt:
    """812 in and 37 out with a markup of 10 %, booked in two parts, and a credit."""
    card, usage = a_card(), Usage(input_tokens=812, output_tokens=37)
    lines = rate_by_card(usage=usage, card=card, service_tier=None, at=T0, markup_percent=Decimal(10)).lines
    bill = bill_of(
        outcome=Outcome.CANCELLED,
        usage=usage,
        usage_source=UsageSource.GATEWAY_COUNT,
        rate_card_id=card.rate_card_id,
        model_rule="anthropic/claude-opus-4.7 starts_with claude-opus-4",
        markup_percent=Decimal(10),
        lines=lines,
    )
    assert str(bill.usd_cents.normalize()) == "0.54835"
    return Receipt(
        format=FORMAT,
        customer_id="acme",
        stream_id="s",
        issued_at=T0,
        state="finalized",
        start=start(),
        delivered=Delivered(seq=1, output_tokens=20),
        end=end(outcome=Outcome.CANCELLED),
        last_event_at=T0 + timedelta(seconds=4),
        bill=bill,
        rate_card=ReceiptCard(card=card, provenance="test", created_at=T0),
        resolution=None,
        entries=[entry("0.5"), entry("0.04835", number=1), entry("-0.1", number=2, note="an outage")],
        usd_cents=Decimal("0.44835"),
        invoice=None,
    )


def faulty(receipt: Receipt) -> set[str]:
    """The names of the checks that found something."""
    return {check.name for check in verify(receipt) if check.fault}


def billed(**changes: Any) -> Callable[[Receipt], Receipt]:
    """A receipt whose bill says something else."""
    return lambda receipt: replace(receipt, bill=structs.replace(receipt.bill, **changes))  # type: ignore[type-var]


def shown(**changes: Any) -> Callable[[Receipt], Receipt]:
    """A receipt that says something else itself."""
    return lambda receipt: replace(receipt, **changes)


def carded(**changes: Any) -> Callable[[Receipt], Receipt]:
    """A receipt whose rate card says something else."""

    def apply(receipt: Receipt) -> Receipt:
        assert receipt.rate_card is not None
        card = replace(receipt.rate_card.card, **changes)
        return replace(receipt, rate_card=replace(receipt.rate_card, card=card))

    return apply


def draw(cents: str, *, number: int = 0) -> ReceiptDraw:
    return ReceiptDraw(
        grant_id="gr_1", entry_id=f"e{number}", booked_at=T0, usd_cents=Decimal(cents), left_usd_cents=Decimal(1)
    )


def test_what_grants_paid_of_the_cost_is_checked_where_they_did() -> None:
    paid = replace(genuine(), draws=[draw("-0.5"), draw("-0.04835", number=1), draw("0.1", number=2)])
    assert [check.name for check in verify(paid)] == [USAGE, CARD, RULE, LINES, BOOKINGS, DRAWS]
    assert faulty(paid) == set()
    assert paid.prepaid_usd_cents == paid.usd_cents
    for forged in ([draw("-0.6")], [draw("0.1")], [draw("-0.1", number=9)]):
        assert faulty(replace(genuine(), draws=forged)) == {DRAWS}


def test_a_genuine_receipt_has_no_fault() -> None:
    assert [check.name for check in verify(genuine())] == [USAGE, CARD, RULE, LINES, BOOKINGS]
    assert faulty(genuine()) == set()


@pytest.mark.parametrize(
    ("forge", "check"),
    [
        (billed(usage=Usage(input_tokens=812, output_tokens=36)), USAGE),
        (billed(usage_source=UsageSource.PROVIDER), USAGE),
        (billed(input_unknown=True), USAGE),
        (billed(outcome=Outcome.COMPLETED), USAGE),
        (billed(ended_at=T0), USAGE),
        (billed(provider="openai"), USAGE),
        (billed(model="claude-opus-4.6"), USAGE),
        (billed(started_at=T0 + timedelta(seconds=1)), USAGE),
        (billed(service_tier="batch"), USAGE),
        (shown(start=start(model="claude-opus-4.6")), USAGE),
        (shown(end=end(outcome=Outcome.CANCELLED, output=38)), USAGE),
        (shown(end=None), USAGE),
        (billed(rate_card_id="rc_other"), CARD),
        (shown(rate_card=None), CARD),
        (carded(rates=(Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(5)),)), CARD),
        (carded(effective_from=T0 + timedelta(days=1)), CARD),
        (carded(model="another"), CARD),
        (carded(rate_card_id="rc_other"), CARD),
        (carded(names={"equals": "another"}), RULE),
        (billed(model_rule="anthropic/claude-opus-4.7 equals claude-opus-4.7"), RULE),
        (billed(model_rule="anthropic/another starts_with claude-opus-4"), RULE),
        (billed(response_model="another"), RULE),
        (billed(markup_percent=Decimal(0)), LINES),
        (billed(lines=(charge_line("0.54835"),)), LINES),
        (billed(lines=()), LINES),
        (billed(cancel_policy=CancelPolicy.ZERO), LINES),
        (shown(usd_cents=Decimal("0.44836")), BOOKINGS),
        (shown(usd_cents=None), BOOKINGS),
        (shown(entries=[entry("0.54835")]), BOOKINGS),
        (shown(entries=[entry("0.44835")]), BOOKINGS),
        (shown(entries=[entry("0.44835"), entry("0", note="an outage")]), BOOKINGS),
    ],
)
def test_a_forged_field_is_found_by_the_check_that_redoes_it(
    forge: Callable[[Receipt], Receipt], check: str
) -> None:
    assert check in faulty(forge(genuine()))


def test_a_stream_that_is_waived_has_no_lines_and_needs_no_card() -> None:
    receipt = genuine()
    assert receipt.bill is not None
    waived = replace(
        receipt,
        bill=structs.replace(
            receipt.bill, cancel_policy=CancelPolicy.ZERO, lines=(), rate_card_id=None, model_rule=None
        ),
        rate_card=None,
        entries=[entry("0")],
        usd_cents=Decimal(0),
    )
    assert faulty(waived) == set()


def test_while_nothing_is_final_nothing_may_be_claimed() -> None:
    unbilled = replace(genuine(), bill=None, rate_card=None, entries=[], usd_cents=None)
    assert faulty(unbilled) == set()
    assert faulty(replace(unbilled, usd_cents=Decimal(1))) == {"a stream without a bill costs nothing"}
