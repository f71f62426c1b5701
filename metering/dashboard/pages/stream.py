"""A stream: what it costs and why, live while it is open; its receipt redone, and its events as they were sent."""

from collections.abc import Sequence
from datetime import datetime

from metering.audit.make_receipt import make_receipt
from metering.audit.receipt import Receipt
from metering.audit.receipt_document import receipt_document, verify_document
from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.errors import NoSuchThingError
from metering.dashboard.links import customer_page, invoice_page, stream_page
from metering.dashboard.tables import Cell, Column, Kind, Table
from metering.events.read_stream_events import read_stream_events
from metering.ledger.queries.streams import StreamView, get_stream
from metering.streams.accrue_streams import accrue_stream
from metering.streams.bill import Bill
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.stream import billable_usage

_EVENTS = 50


def stream(asked: Asked) -> Page:
    """The page of one stream."""
    customer_id, stream_id = asked.id("customer_id"), asked.id("stream_id")
    view = _view(asked, customer_id, stream_id)
    receipt = make_receipt(asked.connection, customer_id=customer_id, stream_id=stream_id, now=asked.now)
    assert receipt is not None
    accrued = accrue_stream(asked.connection, stream=view.stream, price_books=asked.service.price_books)
    bill = view.newest_bill or accrued
    tables = [_lines(bill), _entries(receipt), _events(asked, customer_id, stream_id)]
    return Page(
        template="stream.html.j2",
        title=f"Stream {stream_id}",
        section="streams",
        crumbs=[("Streams", link("streams")), (customer_id, customer_page(customer_id))],
        context={
            "stream": view.stream,
            "facts": _facts(view, bill, receipt),
            "cost": view.cost_usd_cents,
            "accrued": accrued.usd_cents if accrued else None,
            "is_live": view.stream.state in (State.OPEN, State.ENDED),
            "needs_person": view.stream.state in NEEDS_PERSON,
            "receipt": receipt,
            "checks": verify_document(receipt_document(receipt)),
            "lines": tables[0],
            "entries": tables[1],
            "events": tables[2],
        },
        tables=tables,
    )


def _view(asked: Asked, customer_id: str, stream_id: str) -> StreamView:
    asked.customer(customer_id)
    view = get_stream(asked.connection, customer_id=customer_id, stream_id=stream_id)
    if view is None:
        raise NoSuchThingError(f"customer {customer_id!r} has no stream {stream_id!r}")
    return view


def _facts(view: StreamView, bill: Bill | None, receipt: Receipt) -> Sequence[tuple[str, Cell, Kind]]:
    """What there is to say, by name."""
    stream, facts = view.stream, view.stream.facts
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    billable = billable_usage(facts)
    retry = bill.retry_of if bill else None
    rows: list[tuple[str, Cell, Kind]] = [
        ("Customer", Cell(facts.customer_id, customer_page(facts.customer_id)), Kind.TEXT),
        ("State", Cell(stream.state.value, note=stream.state_reason), Kind.STATE),
        ("Model", Cell(f"{start.model} ({start.provider})" if start else None), Kind.TEXT),
        ("Answered by", Cell(end.response_model if end else None), Kind.TEXT),
        ("API key", Cell(start.api_key_id if start else None), Kind.TEXT),
        ("Started", Cell(start.time if start else None), Kind.MOMENT),
        ("Ended", Cell(_ended(view)), Kind.MOMENT),
        ("Outcome", Cell(bill.outcome.value if bill and not _is_open(view) else None), Kind.STATE),
        ("Counted by", Cell(billable.source.value), Kind.TEXT),
        (
            "Cancel policy",
            Cell(f"{bill.cancel_policy}, version {bill.cancel_policy_version}" if bill else None),
            Kind.TEXT,
        ),
        ("Retry of", Cell(retry, stream_page(facts.customer_id, retry) if retry else None), Kind.CODE),
        ("Invoice", Cell(receipt.invoice, invoice_page(receipt.invoice) if receipt.invoice else None), Kind.TEXT),
    ]
    if receipt.resolution is not None:
        decided = receipt.resolution
        rows.append(("Decided", Cell(f"{decided.action} by {decided.resolved_by}: {decided.reason}"), Kind.TEXT))
    return rows


def _is_open(view: StreamView) -> bool:
    """Whether its outcome is not known yet."""
    return view.stream.state is State.OPEN


def _ended(view: StreamView) -> datetime | None:
    facts = view.stream.facts
    if facts.end is not None:
        return facts.end.event.time
    return None if view.stream.state is State.OPEN else facts.last_event_at


def _lines(bill: Bill | None) -> Table:
    """How usage and rates make the amount: anyone can redo it with a pencil."""
    lines = bill.lines if bill else ()
    return Table(
        name="lines",
        title="Quantity × rate",
        columns=[
            Column("kind", "Kind"),
            Column("quantity", "Quantity", Kind.COUNT),
            Column("usd_per_million", "USD per million", Kind.CODE),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "kind": line.kind.value,
                "quantity": line.quantity,
                "usd_per_million": f"{line.usd_per_million.normalize():f}",
                "amount": line.usd_cents,
            }
            for line in lines
        ],
        total={"kind": "Sum", "amount": bill.usd_cents} if bill and lines else None,
        empty="Nothing is billed: it delivered nothing, its upstream does not bill it, or it waits for something.",
    )


def _entries(receipt: Receipt) -> Table:
    """What was booked, and on which invoice it is."""
    return Table(
        name="entries",
        title="What was booked",
        columns=[
            Column("booked_at", "Booked", Kind.MOMENT),
            Column("what", "What", Kind.PROSE),
            Column("id", "Id", Kind.CODE),
            Column("period", "Month"),
            Column("invoice", "Invoice"),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "booked_at": entry.booked_at,
                "what": f"{entry.reason.replace('_', ' ')}{f': {entry.note}' if entry.note else ''}",
                "id": entry.id,
                "period": entry.period,
                "invoice": Cell(entry.invoice, invoice_page(entry.invoice) if entry.invoice else None),
                "amount": entry.usd_cents,
            }
            for entry in receipt.entries
        ],
        total={"booked_at": None, "what": "Cost", "amount": receipt.usd_cents} if receipt.entries else None,
        empty="Nothing is booked yet: a stream is charged once it has ended.",
    )


def _events(asked: Asked, customer_id: str, stream_id: str) -> Table:
    """The facts themselves, as the gateway sent them; not looked for where a part of the page refreshes itself."""
    found = (
        read_stream_events(
            asked.connection, customer_id=customer_id, stream_id=stream_id, begin=None, limit=_EVENTS
        )
        if not asked.refreshes
        else None
    )
    events = found.events if found else ()
    return Table(
        name="events",
        title="Events as they were sent",
        columns=[
            Column("received_at", "Received", Kind.MOMENT),
            Column("key", "By key", Kind.CODE),
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
        empty="Its events are older than the journal is kept.",
        note="There are more; the API gives all of them." if found and found.next_position else "",
        whole=not (found and found.next_position),
    )
