"""A receipt holds everything that a stream's cost is derived from; its checks redo the cost offline."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering.core.money import EXACT, ZERO, cents_text, sum_cents
from metering.events.events import Outcome, StreamEnd, StreamStart
from metering.events.usage import Usage
from metering.prices.model_names import matching_rule, spellings
from metering.prices.rate_book import rule_text
from metering.prices.rates import RateCard, id_by_content
from metering.prices.rating import ChargeLine, RateMissingError, rate_by_card, upstream_cost_line
from metering.prices.readings import all_readings
from metering.prices.service_tiers import service_tier_of
from metering.streams.bill import Bill, PriceSource
from metering.streams.billing import flags_of, upstream_cents
from metering.streams.resolutions import Resolution, ResolutionAction
from metering.streams.stream import Delivered, StreamFacts, billable_usage, facts_of, join

FORMAT = "stream-metering receipt 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEntry:
    """One booking: the charge, or an adjustment with its reason. `invoice` is the number of its invoice."""

    id: str
    booked_at: datetime
    period: str
    reason: str
    note: str | None
    usd_cents: Decimal
    invoice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptDraw:
    """What a grant paid of a booking, below 0, or got back. `left_usd_cents` is what was left of it then."""

    grant_id: str
    entry_id: str
    booked_at: datetime
    usd_cents: Decimal
    left_usd_cents: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptCard:
    """The rate card of the newest bill, the source of its prices, and the time when it was added."""

    card: RateCard
    provenance: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A stream's cost and everything that explains it.

    `start` and `end` are the events that win the merge, `delivered` the highest counters. `entries` begin with the
    charge, `draws` say what grants paid of them. `invoice` is the number of the charge's invoice, once there is
    one. Times of receipt are given only for events whose own time is not believed.
    """

    format: str
    customer_id: str
    stream_id: str
    issued_at: datetime
    state: str
    start: StreamStart | None
    delivered: Delivered | None
    end: StreamEnd | None
    last_event_at: datetime
    bill: Bill | None
    rate_card: ReceiptCard | None
    resolution: Resolution | None
    entries: Sequence[ReceiptEntry]
    usd_cents: Decimal | None
    invoice: str | None
    clock_ahead_seconds: int | None = None
    start_received_at: datetime | None = None
    end_received_at: datetime | None = None
    draws: Sequence[ReceiptDraw] = ()

    @property
    def prepaid_usd_cents(self) -> Decimal:
        """What grants have paid of the cost."""
        return EXACT.minus(sum_cents(each.usd_cents for each in self.draws))

    @property
    def due_usd_cents(self) -> Decimal:
        """What is left to be invoiced."""
        return EXACT.subtract(self.usd_cents or ZERO, self.prepaid_usd_cents)


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `fault` says what does not agree and is None when all does."""

    name: str
    fault: str | None


def verify(receipt: Receipt) -> list[Check]:
    """Redo the receipt's cost from its events, one check for each step."""
    checks: list[tuple[str, Callable[[Receipt, Bill], Iterable[str]]]] = [
        ("the events give the billed usage", _check_usage),
        ("the rate card has the id of its content and was in force", _check_card),
        ("the rate card has a rule for the model's name", _check_rule),
        ("usage x rates gives the lines", _check_lines),
        ("the bookings sum to the cost", _check_entries),
    ]
    if receipt.draws:
        checks.append(("the grants pay no more than the cost", _check_draws))
    if receipt.bill is None:
        fault = None if receipt.usd_cents is None else f"the cost is {receipt.usd_cents}, and there is no bill"
        return [Check("a stream without a bill costs nothing", fault)]
    return [Check(name, "; ".join(check(receipt, receipt.bill)) or None) for name, check in checks]


def facts_of_receipt(receipt: Receipt) -> StreamFacts:
    """The joined facts that the receipt states."""
    facts = StreamFacts(
        customer_id=receipt.customer_id,
        stream_id=receipt.stream_id,
        last_event_at=receipt.last_event_at,
        delivered=receipt.delivered,
        clock_ahead_seconds=receipt.clock_ahead_seconds,
    )
    for event, received_at in ((receipt.start, receipt.start_received_at), (receipt.end, receipt.end_received_at)):
        if event is not None:
            facts = join(facts, facts_of(event, received_at=received_at))
    return facts


def _check_usage(receipt: Receipt, bill: Bill) -> Iterable[str]:
    facts = facts_of_receipt(receipt)
    usage = billable_usage(facts)
    end, start = receipt.end, receipt.start
    service_tier = service_tier_of(
        usage=None, answer=end.service_tier if end else None, request=start.service_tier if start else None
    )
    claims = [
        ("usage", bill.usage, usage.usage),
        ("usage_source", bill.usage_source, usage.source),
        ("input_unknown", bill.input_unknown, usage.input_unknown),
        ("outcome", bill.outcome, end.outcome if end else Outcome.ABANDONED),
        ("ended_at", bill.ended_at, facts.ended_at),
        ("response_provider", bill.response_provider, end.response_provider if end else None),
        ("upstream_usd_cents", bill.upstream_usd_cents, upstream_cents(end)),
        ("inlet", bill.inlet, facts.inlet),
    ]
    if start is not None:
        claims += [
            ("provider", bill.provider, start.provider),
            ("model", bill.model, start.model),
            ("started_at", bill.started_at, facts.start.at if facts.start else start.time),
            ("service_tier", bill.service_tier, service_tier),
        ]
    return [
        f"{name}: billed {_text(claimed)}, the events say {_text(found)}"
        for name, claimed, found in claims
        if claimed != found and not (name == "service_tier" and _written_off(bill))
    ]


def _written_off(bill: Bill) -> bool:
    return bill.resolution is ResolutionAction.WRITE_OFF


def _nothing_to_price(receipt: Receipt, bill: Bill) -> bool:
    return (
        bill.cancel_policy.waives(bill.outcome)
        or _written_off(bill)
        or billable_usage(facts_of_receipt(receipt)).nothing
    )


def _check_card(receipt: Receipt, bill: Bill) -> Iterable[str]:
    if receipt.rate_card is None:
        return [] if bill.rate_card_id is None else [f"the card {bill.rate_card_id} is missing"]
    card = receipt.rate_card.card
    content = id_by_content(card)
    faults = []
    if card.rate_card_id != bill.rate_card_id:
        faults.append(f"the bill names {bill.rate_card_id}, the receipt has {card.rate_card_id}")
    if card.rate_card_id != content:
        faults.append(f"the content has the id {content}, not {card.rate_card_id}")
    if card.effective_from > bill.started_at:
        faults.append(f"the card is in force from {card.effective_from}, the stream started at {bill.started_at}")
    return faults


def _check_rule(receipt: Receipt, bill: Bill) -> Iterable[str]:
    if receipt.rate_card is None or bill.model_rule is None:
        return []
    card, name = receipt.rate_card.card, (bill.response_model or bill.model).strip().lower()
    for written in (name, name.partition("/")[2]):
        for reading in all_readings(written):
            for spelling in spellings(reading.name):
                rule = matching_rule(card.names, spelling)
                if rule and bill.model_rule.endswith(f"/{rule_text(spelling, rule, reading.because)}"):
                    return []
    return [f"{bill.model_rule!r} does not follow from {name!r} and the card's names"]


def _check_lines(receipt: Receipt, bill: Bill) -> Iterable[str]:
    if _nothing_to_price(receipt, bill):
        return [] if not bill.lines else ["there are lines although nothing is billable"]
    if bill.price_source is PriceSource.UPSTREAM:
        return _check_upstream_line(receipt, bill)
    if receipt.rate_card is None:
        return ["there is no rate card"]
    try:
        rated = rate_by_card(
            usage=bill.usage,
            card=receipt.rate_card.card,
            service_tier=bill.service_tier,
            at=bill.started_at,
            markup_percent=bill.markup_percent,
        )
    except RateMissingError as error:
        return [f"the card has {error}"]
    faults = list(_differences(rated.lines, bill.lines))
    raised = flags_of(facts_of_receipt(receipt), billable_usage(facts_of_receipt(receipt)), rated.at_parent_rate)
    if raised != bill.flags:
        faults.append(f"the flags are {_text(raised)}, the bill has {_text(bill.flags)}")
    return faults


def _check_upstream_line(receipt: Receipt, bill: Bill) -> Iterable[str]:
    cost = receipt.end.upstream_cost_usd if receipt.end else None
    if cost is None:
        return ["the upstream stated no cost"]
    line = upstream_cost_line(upstream_cost_usd=cost, markup_percent=bill.markup_percent)
    return list(_differences((line,), bill.lines))


def _differences(derived: Sequence[ChargeLine], billed: Sequence[ChargeLine]) -> Iterator[str]:
    """Each line that the bill has otherwise than it follows from usage and rates."""
    ours, theirs = ({line.kind: line for line in lines} for lines in (derived, billed))
    for kind in dict.fromkeys((*ours, *theirs)):
        if ours.get(kind) != theirs.get(kind):
            yield f"{kind.value}: {_line_text(ours.get(kind))}, the receipt says {_line_text(theirs.get(kind))}"
    if len(billed) != len(theirs):
        yield "a kind has more than one line"


def _text(value: Any) -> str:
    """A value in words and digits."""
    match value:
        case None | ():
            return "nothing"
        case Usage():
            return ", ".join(f"{name} {count}" for name, count in value.known().items()) or "nothing"
        case datetime():
            return value.isoformat()
        case Decimal():
            return cents_text(value)
        case tuple():
            return ", ".join(map(_text, value))
    return str(value)


def _line_text(line: ChargeLine | None) -> str:
    """A line as a sum: `629 x $2.5/M = 0.15725 cents`."""
    if line is None:
        return "nothing"
    unit = "M" if line.usd_per_hour is None else "h"
    return f"{line.quantity} x ${cents_text(line.usd)}/{unit} = {cents_text(line.usd_cents)} cents"


def _check_draws(receipt: Receipt, bill: Bill) -> Iterable[str]:  # noqa: ARG001 - as all checks
    booked = {entry.id for entry in receipt.entries}
    faults = [f"{each.grant_id} pays for {each.entry_id}" for each in receipt.draws if each.entry_id not in booked]
    paid, cost = receipt.prepaid_usd_cents, receipt.usd_cents or ZERO
    if not ZERO <= paid <= max(cost, ZERO):
        faults.append(f"grants paid {cents_text(paid)} cents of a cost of {cents_text(cost)}")
    return faults


def _check_entries(receipt: Receipt, bill: Bill) -> Iterable[str]:
    booked = sum_cents(entry.usd_cents for entry in receipt.entries)
    manual = sum_cents(entry.usd_cents for entry in receipt.entries if entry.note is not None)
    faults = []
    if booked != receipt.usd_cents:
        faults.append(f"the bookings sum to {booked}, the cost is {receipt.usd_cents}")
    if EXACT.add(bill.usd_cents, manual) != (receipt.usd_cents or ZERO):
        faults.append(
            f"the bill of {bill.usd_cents} and the manual {manual} are not the cost of {receipt.usd_cents}"
        )
    return faults
