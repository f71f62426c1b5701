"""The page of a stream: its cost and how it is calculated, live while open; its verified receipt; its events."""

from collections.abc import Sequence
from datetime import datetime

from metering.audit.make_receipt import make_receipt
from metering.audit.receipt import Receipt
from metering.audit.receipt_document import receipt_document, verify_document
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_cell, customer_page, invoice_cell, link, stream_cell
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Table
from metering.events.events import EVIDENCE
from metering.events.read_stream_events import read_stream_events
from metering.events.usage import TIMED_KINDS
from metering.ledger.queries.streams import StreamView, get_stream
from metering.streams.accrue_streams import accrue_stream
from metering.streams.bill import Bill, PriceSource
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.stream import BillableUsage, StreamFacts, billable_usage

_EVENTS = 50


def stream(request: PageRequest) -> Page:
    """The page."""
    customer_id, stream_id = request.id("customer_id"), request.id("stream_id")
    view = _view(request, customer_id, stream_id)
    receipt = make_receipt(request.connection, customer_id=customer_id, stream_id=stream_id, now=request.now)
    assert receipt is not None
    accrued = accrue_stream(request.connection, stream=view.stream, price_books=request.service.price_books)
    bill = view.newest_bill or accrued
    tables = [_lines(bill), _entries(receipt), _events(request, customer_id, stream_id)]
    return Page(
        template="stream.html.j2",
        title=f"Stream {stream_id}",
        section="streams",
        customer_id=customer_id,
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


def _view(request: PageRequest, customer_id: str, stream_id: str) -> StreamView:
    request.customer(customer_id)
    view = get_stream(request.connection, customer_id=customer_id, stream_id=stream_id)
    if view is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    return view


def _facts(view: StreamView, bill: Bill | None, receipt: Receipt) -> Sequence[tuple[str, Cell, Kind]]:
    """The stream's properties, by name."""
    stream, facts = view.stream, view.stream.facts
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    billable = billable_usage(facts)
    rows: list[tuple[str, Cell, Kind]] = [
        ("Customer", customer_cell(facts.customer_id), Kind.TEXT),
        ("State", Cell(stream.state.value, note=stream.state_reason), Kind.STATE),
        ("Model", Cell(f"{start.model} ({start.provider})" if start else None), Kind.TEXT),
        ("Response model", Cell(end.response_model if end else None), Kind.TEXT),
        ("API key", Cell(start.api_key_id if start else None), Kind.TEXT),
        ("Started", Cell(facts.start.at if facts.start else None), Kind.TIME),
        ("Ended", Cell(_ended(view)), Kind.TIME),
        ("Outcome", Cell(bill.outcome.value if bill and not _is_open(view) else None), Kind.STATE),
        ("Usage source", Cell(billable.source.value), Kind.TEXT),
        ("Inlet", Cell(facts.inlet.value, note=EVIDENCE[facts.inlet]), Kind.TEXT),
        *_doubts(bill, billable, facts),
        ("Cancel policy", Cell(_policy(bill) if bill else None), Kind.TEXT),
        ("Retry of", stream_cell(facts.customer_id, bill.retry_of if bill else None), Kind.CODE),
        ("Invoice", invoice_cell(receipt.invoice, receipt.invoice), Kind.TEXT),
    ]
    if receipt.resolution is not None:
        decided = receipt.resolution
        rows.append(("Decision", Cell(f"{decided.action} by {decided.resolved_by}: {decided.reason}"), Kind.TEXT))
    return rows


def _doubts(bill: Bill | None, billable: BillableUsage, facts: StreamFacts) -> list[tuple[str, Cell, Kind]]:
    """What a person should know of the usage and the price; empty for most streams."""
    rows: list[tuple[str, Cell, Kind]] = []
    if bill is not None and bill.flags:
        rows.append(("Flags", Cell(", ".join(flag.value.replace("_", " ") for flag in bill.flags)), Kind.TEXT))
    rows += [("Reading", Cell(fault), Kind.TEXT) for fault in billable.faults]
    if facts.clock_ahead_seconds is not None:
        rows.append(("Clock", Cell(f"{facts.clock_ahead_seconds:,} s ahead of the receipt"), Kind.TEXT))
    if bill is not None and bill.response_provider is not None:
        rows.append(("Response provider", Cell(bill.response_provider), Kind.TEXT))
    if bill is not None and bill.upstream_usd_cents is not None:
        rows.append(("The upstream says", Cell(bill.upstream_usd_cents), Kind.EXACT_MONEY))
    if bill is not None and bill.price_source is PriceSource.UPSTREAM:
        rows.append(("Price", Cell("the upstream's own cost"), Kind.TEXT))
    return rows


def _policy(bill: Bill) -> str:
    version = bill.cancel_policy_version
    return f"{bill.cancel_policy}, version {version}" if version else f"{bill.cancel_policy} (default)"


def _is_open(view: StreamView) -> bool:
    """Whether the outcome is still unknown."""
    return view.stream.state is State.OPEN


def _ended(view: StreamView) -> datetime | None:
    facts = view.stream.facts
    if facts.end is not None:
        return facts.end.at
    return None if view.stream.state is State.OPEN else facts.last_event_at


def _lines(bill: Bill | None) -> Table:
    """The calculation of the amount from usage and rates."""
    lines = bill.lines if bill else ()
    return Table(
        name="lines",
        title="Quantity × rate",
        columns=[
            Column("kind", "Kind"),
            Column("quantity", "Quantity", Kind.COUNT),
            Column("rate", "USD per million", Kind.CODE),
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
        empty="Nothing is billed: the stream delivered nothing, its cancel policy bills nothing, or it is in the"
        " backlog.",
    )


def _entries(receipt: Receipt) -> Table:
    """The ledger entries, and the invoice of each."""
    return Table(
        name="entries",
        title="Ledger entries",
        columns=[
            Column("booked_at", "Booked", Kind.TIME),
            Column("what", "Description", Kind.PROSE),
            Column("id", "ID", Kind.CODE),
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
                "invoice": invoice_cell(entry.invoice, entry.invoice),
                "amount": entry.usd_cents,
            }
            for entry in receipt.entries
        ],
        total={"booked_at": None, "what": "Cost", "amount": receipt.usd_cents} if receipt.entries else None,
        empty="No entries yet. A stream is charged when it is finalized.",
    )


def _events(request: PageRequest, customer_id: str, stream_id: str) -> Table:
    """The events as the gateway sent them; skipped when only the live part of the page is reloaded."""
    found = (
        read_stream_events(
            request.connection, customer_id=customer_id, stream_id=stream_id, begin=None, limit=_EVENTS
        )
        if not request.refreshes
        else None
    )
    events = found.events if found else ()
    return Table(
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
