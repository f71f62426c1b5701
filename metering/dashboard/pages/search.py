"""The search page: customers, invoices, streams and bookings by any name or id that people have at hand."""

from collections.abc import Sequence

from metering.access.scopes import Scope
from metering.customers.queries.customers import search_customers
from metering.dashboard.links import customer_cell, customer_page, invoice_cell, stream_cell
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Table
from metering.events.events import stream_of_event
from metering.ledger.queries.bookings import find_bookings
from metering.ledger.queries.found_streams import find_by_id, find_by_prefix
from metering.months.queries.invoices import search_invoices

_SHOWN = 8


def search(request: PageRequest) -> Page:
    """The page. It finds only what the viewer's key may read."""
    words = request.text("q")
    tables = _found(request, words) if words else []
    return Page(
        template="search.html.j2",
        title=f"Search: {words}" if words else "Search",
        section="search",
        context={"words": words, "tables": [table for table in tables if table.rows]},
        tables=tables,
    )


def _found(request: PageRequest, words: str) -> Sequence[Table]:
    viewer = request.viewer
    finders = (
        (_customers, viewer.may(Scope.CUSTOMERS_READ) and viewer.customer_id is None),
        (_invoices, viewer.may(Scope.INVOICES_READ)),
        (_streams, viewer.may(Scope.STREAMS_READ)),
        (_bookings, viewer.may(Scope.STREAMS_READ) and viewer.may(Scope.CORRECTIONS_READ)),
    )
    return [find(request, words) for find, allowed in finders if allowed]


def _customers(request: PageRequest, words: str) -> Table:
    found = search_customers(request.connection, words=words, limit=_SHOWN)
    return Table(
        name="found-customers",
        title="Customers",
        columns=[Column("customer_id", "Customer")],
        rows=[{"customer_id": customer_cell(customer_id)} for customer_id, _ in found],
        empty="",
    )


def _invoices(request: PageRequest, words: str) -> Table:
    customer_id = request.viewer.customer_id
    found = search_invoices(request.connection, words=words, customer_id=customer_id, limit=_SHOWN)
    return Table(
        name="found-invoices",
        title="Invoices",
        columns=[
            Column("number", "Invoice", Kind.CODE),
            Column("customer_id", "Customer"),
            Column("period", "Month"),
        ],
        rows=[
            {
                "number": invoice_cell(each.number, each.invoice_id),
                "customer_id": customer_cell(each.customer_id),
                "period": each.period,
            }
            for each in found
        ],
        empty="",
    )


def _streams(request: PageRequest, words: str) -> Table:
    customer_id = request.viewer.customer_id
    found = find_by_prefix(request.connection, prefix=words, customer_id=customer_id, limit=_SHOWN)
    if not found and (of_event := stream_of_event(words)) is not None:
        found = find_by_id(request.connection, stream_id=of_event, customer_id=customer_id, limit=_SHOWN)
    return Table(
        name="found-streams",
        title="Streams",
        columns=[
            Column("stream_id", "Stream", Kind.CODE),
            Column("customer_id", "Customer"),
            Column("state", "State", Kind.STATE),
            Column("last_event_at", "Last event", Kind.TIME),
        ],
        rows=[
            {
                "stream_id": stream_cell(each.facts.customer_id, each.facts.stream_id),
                "customer_id": customer_cell(each.facts.customer_id),
                "state": request.stream_state(each.state),
                "last_event_at": each.facts.last_event_at,
            }
            for each in found
        ],
        empty="",
    )


def _bookings(request: PageRequest, words: str) -> Table:
    """Charges and adjustments by their ids: a charge if it is one of the latest, an adjustment of any time."""
    found = find_bookings(request.connection, entry_id=words, customer_id=request.viewer.customer_id)
    return Table(
        name="found-bookings",
        title="Charges and adjustments",
        columns=[
            Column("id", "ID", Kind.CODE),
            Column("kind", "Kind"),
            Column("customer_id", "Customer"),
            Column("stream_id", "Stream", Kind.CODE),
            Column("booked_at", "Booked", Kind.TIME),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "id": Cell(each.entry_id, stream_cell(each.customer_id, each.stream_id).href)
                if each.stream_id
                else Cell(each.entry_id, customer_page(each.customer_id) + "#adjustments"),
                "kind": each.kind,
                "customer_id": customer_cell(each.customer_id),
                "stream_id": stream_cell(each.customer_id, each.stream_id),
                "booked_at": each.booked_at,
                "amount": each.usd_cents,
            }
            for each in found
        ],
        empty="",
    )
