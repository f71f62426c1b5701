"""What is shown of one stream, on its page and beside a list: figures, steps, lines, bookings, checks, events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from metering.access.scopes import Scope
from metering.audit.make_receipt import make_receipt
from metering.audit.receipt import Check, Receipt
from metering.audit.receipt_document import receipt_document, verify_document
from metering.core.money import EXACT, ZERO
from metering.credits.queries.balances import balance_now
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import grant_page, line_page, rate_page
from metering.dashboard.page_request import OPEN_PARAMETERS, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Table
from metering.dashboard.values import counted, duration, exact_money
from metering.events.read_stream_events import read_stream_events
from metering.events.usage import TIMED_KINDS
from metering.ledger.queries.streams import StreamView, get_stream
from metering.months.queries.invoices import lines_of_stream
from metering.streams.accrue_streams import accrue_stream
from metering.streams.bill import Bill
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.store.streams import StoredStream
from metering.streams.stream import billable_usage

_EVENTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a stream's life; `at` is None if its time is not known."""

    title: str
    at: datetime | None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEvent:
    """An event as it was received: its type and id, and its JSON, indented."""

    type: str
    id: str
    received_at: datetime
    key: str
    json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDetails:
    """One stream. `cost` is None while it is not final; then `accrued` is what it would cost if it ended now."""

    stream: StoredStream
    receipt: Receipt
    bill: Bill | None
    cost: Decimal | None
    accrued: Decimal | None
    state: str
    model: str | None
    provider: str | None
    tokens: Sequence[tuple[str, int | None]]
    lasted: str | None
    steps: Sequence[Step]
    checks: Sequence[Check]
    lines: Table
    entries: Table
    draws: Table
    events: Table
    shown_events: Sequence[ShownEvent]
    rates: str | None

    @property
    def is_live(self) -> bool:
        """Whether it may still change by itself."""
        return self.stream.state in (State.OPEN, State.ENDED)

    @property
    def needs_person(self) -> bool:
        """Whether it waits in the backlog."""
        return self.stream.state in NEEDS_PERSON

    @property
    def faults(self) -> int:
        """How many checks of the receipt failed."""
        return sum(check.fault is not None for check in self.checks)


def read_details(
    request: PageRequest, customer_id: str, stream_id: str, *, with_events: bool = True
) -> StreamDetails:
    """A stream that the viewer may see; its events are read only `with_events`.

    Raises:
        NotFoundError: there is no such stream, or the viewer may not see it.
    """
    request.customer(customer_id)
    view = get_stream(request.connection, customer_id=customer_id, stream_id=stream_id)
    if view is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    receipt = make_receipt(request.connection, customer_id=customer_id, stream_id=stream_id, now=request.now)
    assert receipt is not None
    accrued = accrue_stream(request.connection, stream=view.stream, price_books=request.service.price_books)
    bill = view.newest_bill or accrued
    facts = view.stream.facts
    usage = bill.usage if bill else billable_usage(facts).usage
    start = facts.start.event if facts.start else None
    table, shown = _events(request, customer_id, stream_id) if with_events else _NO_EVENTS
    return StreamDetails(
        stream=view.stream,
        receipt=receipt,
        bill=bill,
        cost=view.cost_usd_cents,
        accrued=accrued.usd_cents if accrued else None,
        state=request.stream_state(view.stream.state),
        model=bill.model if bill else start.model if start else None,
        provider=bill.provider if bill else start.provider if start else None,
        tokens=[
            ("in", usage.input_tokens),
            ("cached", usage.cache_read_input_tokens),
            ("out", usage.output_tokens),
        ],
        lasted=_lasted(view),
        steps=list(_steps(view, bill, receipt)),
        checks=verify_document(receipt_document(receipt)),
        lines=_lines(bill),
        entries=_entries(request, receipt),
        draws=_draws(request, receipt),
        events=table,
        shown_events=shown,
        rates=_rates(request, receipt),
    )


def opened(request: PageRequest) -> StreamDetails | None:
    """The stream that the address of a list opens beside it; None without one, and if it is not there."""
    customer_id, stream_id = (request.query.get(name, "") for name in OPEN_PARAMETERS)
    if not customer_id or not stream_id or "\0" in customer_id + stream_id:
        return None
    try:
        return read_details(request, customer_id, stream_id)
    except NotFoundError:
        return None


def ended(view: StreamView) -> datetime | None:
    """When the stream ended; None while it is open."""
    facts = view.stream.facts
    if facts.end is not None:
        return facts.end.at
    return None if view.stream.state is State.OPEN else facts.last_event_at


def _lasted(view: StreamView) -> str | None:
    """How long it took, or has taken so far."""
    facts = view.stream.facts
    if facts.start is None:
        return None
    return duration(max((ended(view) or facts.last_event_at) - facts.start.at, timedelta(0)))


def _steps(view: StreamView, bill: Bill | None, receipt: Receipt) -> Iterator[Step]:
    facts = view.stream.facts
    if facts.start is not None:
        tokens = facts.start.event.input_tokens
        yield Step(
            title="Started", at=facts.start.at, detail=counted(tokens, "input token") if tokens is not None else ""
        )
    if facts.delivered is not None:
        seen = counted(facts.delivered.output_tokens, "output token")
        yield Step(title="Tokens", at=None, detail=f"{seen} seen while streaming")
    at, lasted = ended(view), _lasted(view)
    if at is None:
        yield Step(title="Last event", at=facts.last_event_at, detail="in progress")
    else:
        words = [bill.outcome.value.replace("_", " ")] if bill else []
        words += [f"after {lasted}"] if lasted else []
        yield Step(title="Ended", at=at, detail=", ".join(words))
    for entry in receipt.entries:
        yield Step(title=entry.reason.replace("_", " ").capitalize(), at=entry.booked_at, detail="booked")


def _rates(request: PageRequest, receipt: Receipt) -> str | None:
    """The page of the rate card that priced it, if the viewer may see rates."""
    if receipt.rate_card is None or not request.viewer.may(Scope.RATES_READ):
        return None
    card = receipt.rate_card.card
    return rate_page(card.provider, card.model)


def _lines(bill: Bill | None) -> Table:
    """The calculation of the amount from usage and rates."""
    lines = bill.lines if bill else ()
    return Table(
        name="lines",
        title="Quantity × rate",
        columns=[
            Column("kind", "Kind"),
            Column("quantity", "Quantity", Kind.COUNT),
            Column("rate", "USD per million", Kind.RATE),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "kind": line.kind.value,
                "quantity": line.quantity,
                "rate": f"{line.usd.normalize():f}" + (" per hour" if line.kind in TIMED_KINDS else ""),
                "amount": line.usd_cents,
            }
            for line in lines
        ],
        total={"kind": "Sum", "amount": bill.usd_cents} if bill and lines else None,
        empty="Nothing is billed: the stream delivered nothing, its cancel policy bills nothing, or its cost is"
        " not known yet.",
    )


def _entries(request: PageRequest, receipt: Receipt) -> Table:
    """The ledger entries, and the invoice line that sums each."""
    customer_id, stream_id = receipt.customer_id, receipt.stream_id
    may_see = request.viewer.may(Scope.INVOICES_READ)
    found = lines_of_stream(request.connection, customer_id=customer_id, stream_id=stream_id) if may_see else {}
    hrefs = {id: line_page(line.invoice_id, line.line_key) for id, line in found.items()}
    return Table(
        name="entries",
        title="Ledger entries",
        columns=[
            Column("booked_at", "Booked", Kind.TIME),
            Column("amount", "Amount", Kind.EXACT_MONEY),
            Column("what", "Description", Kind.PROSE),
            Column("invoice", "Invoice line"),
            Column("period", "Month"),
            Column("id", "ID", Kind.CODE),
        ],
        rows=[
            {
                "booked_at": entry.booked_at,
                "what": f"{entry.reason.replace('_', ' ')}{f': {entry.note}' if entry.note else ''}",
                "id": entry.id,
                "period": entry.period,
                "invoice": Cell(entry.invoice, hrefs.get(entry.id)),
                "amount": entry.usd_cents,
            }
            for entry in receipt.entries
        ],
        total={"booked_at": None, "what": "Cost", "amount": receipt.usd_cents} if receipt.entries else None,
        empty="No entries yet. A stream is charged when it is finalized.",
    )


def _draws(request: PageRequest, receipt: Receipt) -> Table:
    """What grants paid of the cost, what is left of each, and what is to be invoiced."""
    may_see = request.viewer.may(Scope.CREDITS_READ)
    asks = may_see and receipt.draws
    found = balance_now(request.connection, customer_id=receipt.customer_id, at=request.now) if asks else ()
    left = {each.grant.grant_id: each.balance_usd_cents for each in found}
    return Table(
        name="draws",
        title="Paid by prepaid credit",
        columns=[
            Column("booked_at", "Booked", Kind.TIME),
            Column("paid", "Paid", Kind.EXACT_MONEY),
            Column("grant_id", "Grant", Kind.CODE),
            Column("then", "Left of it then", Kind.EXACT_MONEY),
            *([Column("now", "Left of it now", Kind.EXACT_MONEY)] if may_see else []),
            Column("entry_id", "For", Kind.CODE),
        ],
        rows=[
            {
                "booked_at": each.booked_at,
                "paid": EXACT.minus(each.usd_cents),
                "grant_id": Cell(each.grant_id, grant_page(each.grant_id) if may_see else None),
                "then": each.left_usd_cents,
                "now": left.get(each.grant_id, ZERO),
                "entry_id": each.entry_id,
            }
            for each in receipt.draws
        ],
        total={"booked_at": None, "paid": receipt.prepaid_usd_cents} if receipt.draws else None,
        empty="No grant paid for it.",
        note=f"{exact_money(receipt.due_usd_cents)} of the cost is to be invoiced." if receipt.draws else "",
    )


def _events(request: PageRequest, customer_id: str, stream_id: str) -> tuple[Table, Sequence[ShownEvent]]:
    """The events as the gateway sent them, as a table for files and as JSON to read."""
    found = read_stream_events(
        request.connection, customer_id=customer_id, stream_id=stream_id, begin=None, limit=_EVENTS
    )
    events = found.events if found else ()
    table = Table(
        name="events",
        title="Events as received",
        columns=[
            Column("received_at", "Received", Kind.TIME),
            Column("key", "Ingest key", Kind.CODE),
            Column("event", "Event", Kind.CODE),
        ],
        rows=[
            {
                "received_at": each.position.arrival.received_at,
                "key": each.ingest_key_id,
                "event": each.event.decode(errors="replace"),
            }
            for each in events
        ],
        empty="The journal no longer has this stream's events.",
        note="There are more events: read them over the API." if found and found.next_position else "",
        whole=not (found and found.next_position),
    )
    shown = [_shown(each.event, each.position.arrival.received_at, each.ingest_key_id) for each in events]
    return table, shown


_NO_EVENTS: tuple[Table, Sequence[ShownEvent]] = (
    Table(name="events", title="Events as received", columns=[], rows=[], empty=""),
    (),
)


def _shown(event: bytes, received_at: datetime, key: str) -> ShownEvent:
    """An event with the digits and the order of its fields as they were sent."""
    named = msgspec.json.decode(event)
    return ShownEvent(
        type=str(named.get("type", "event")),
        id=str(named.get("id", "")),
        received_at=received_at,
        key=key,
        json=msgspec.json.format(event, indent=2).decode(errors="replace"),
    )
