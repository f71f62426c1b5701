"""The invoices page; the page of one invoice with its lines and rounding; and the entries of a line."""

from collections.abc import Sequence
from decimal import Decimal

from metering.core.money import EXACT
from metering.core.period import BillingPeriod
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_cell, customer_page, invoice_cell, invoice_page, link, stream_cell
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.months.invoice import LineKind, describe
from metering.months.queries.invoices import InvoiceFilter, find_invoice, line_entries, list_invoices
from metering.months.store.invoices import StoredInvoice
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import PushView, list_drift, push_views, pushes_by_state

_PAGE, _ENTRIES = 100, 500

_COLUMNS = (
    Column("number", "Number"),
    Column("customer_id", "Customer"),
    Column("period", "Month"),
    Column("state", "Stripe", Kind.STATE),
    Column("billed", "Billed", Kind.MONEY),
    Column("exact", "Exact", Kind.EXACT_MONEY),
    Column("carried_in", "Carried from previous", Kind.EXACT_MONEY),
    Column("remainder", "Carried to next", Kind.EXACT_MONEY),
    Column("lines", "Lines", Kind.COUNT),
    Column("stripe", "Stripe number"),
)


def invoices(request: PageRequest) -> Page:
    """The page of all invoices."""
    month = request.text("month")
    period = str(BillingPeriod.parse(month)) if month else None
    state = request.one_of("state", tuple(PushState))
    customer_id = request.customer(request.text("customer_id"))
    limit, position = request.page_limit("invoices", _PAGE), request.position(2)
    where = InvoiceFilter(customer_id=customer_id, period=period, state=state)
    before = (position[0], position[1]) if position else None
    found = list_invoices(request.connection, where=where, before=before, limit=limit + 1)
    shown = found[:limit]
    more = None
    if len(found) > limit:
        last = shown[-1].invoice
        more = request.next_page("invoices", [str(last.period), last.customer_id])
    table = invoice_table(
        request,
        shown,
        more=more,
        empty="No invoice matches. Close a month with `metering invoices run --period 2026-10`; beat also does.",
    )
    # Sums and downloads are of the requested month, or else of the newest.
    summed = period or (str(shown[0].invoice.period) if shown else None)
    return Page(
        template="invoices.html.j2",
        title="Invoices",
        section="invoices",
        context={
            "table": table,
            "by_state": pushes_by_state(request.connection, period=summed, only=customer_id) if summed else [],
            "summed": summed,
            "period": period,
            "state": state,
            "states": list(PushState),
            "customer_id": customer_id,
        },
        tables=[table],
    )


def invoice_table(
    request: PageRequest,
    found: Sequence[StoredInvoice],
    *,
    empty: str,
    more: str | None = None,
    whole: bool = True,
) -> Table:
    """A table of invoices."""
    pushes = push_views(
        request.connection, [(each.invoice.customer_id, each.invoice.invoice_id) for each in found]
    )
    return Table(
        name="invoices",
        title="Invoices, newest month first",
        columns=_COLUMNS,
        rows=[_row(each, pushes[each.invoice.invoice_id]) for each in found],
        empty=empty,
        more=more,
        whole=whole,
    )


def _row(stored: StoredInvoice, push: PushView) -> Row:
    invoice = stored.invoice
    return {
        "number": invoice_cell(stored.number, invoice.invoice_id),
        "customer_id": customer_cell(invoice.customer_id),
        "period": str(invoice.period),
        "state": Cell(push.state.value, note=push.problem),
        "lines": len(invoice.lines),
        "exact": invoice.exact_usd_cents,
        "carried_in": invoice.carried_in_usd_cents,
        "billed": Decimal(invoice.billed_cents),
        "remainder": invoice.remainder_usd_cents,
        "stripe": Cell(push.stripe_number, safe_url(push.stripe_url)),
    }


def safe_url(url: str | None) -> str | None:
    """An address at Stripe, if it is http or https; else None."""
    return url if url is not None and url.startswith(("https://", "http://")) else None


def stored_invoice(request: PageRequest) -> StoredInvoice:
    """The requested invoice.

    Raises:
        NotFoundError: it does not exist, or the viewer may not see it.
    """
    wanted = request.id("invoice_id")
    stored = find_invoice(request.connection, invoice_id=wanted)
    if stored is None or request.viewer.customer_id not in (None, stored.invoice.customer_id):
        raise NotFoundError(f"there is no invoice {wanted!r}")
    return stored


def invoice(request: PageRequest) -> Page:
    """The page of one invoice."""
    stored = stored_invoice(request)
    mine = stored.invoice
    push = push_views(request.connection, [(mine.customer_id, mine.invoice_id)])[mine.invoice_id]
    findings = list_drift(
        request.connection, customer_id=mine.customer_id, period=str(mine.period), reconciliation_id=None,
        before=None, limit=_PAGE,
    )  # fmt: skip
    table = _lines(stored)
    return Page(
        template="invoice.html.j2",
        title=f"Invoice {stored.number}",
        section="invoices",
        calendar=f"Days and months are in {stored.closed.time_zone}." if stored.closed.time_zone != "UTC" else "",
        crumbs=[("Invoices", link("invoices")), (mine.customer_id, customer_page(mine.customer_id))],
        context={
            "stored": stored,
            "push": push,
            "stripe_url": safe_url(push.stripe_url),
            "lines": table,
            "findings": [each for each in findings if each.repaired_at is None],
            "here": invoice_page(mine.invoice_id),
            "before": invoice_page(mine.previous_invoice_id) if mine.previous_invoice_id else None,
        },
        tables=[table],
    )


def _lines(stored: StoredInvoice) -> Table:
    mine = stored.invoice
    return Table(
        name="lines",
        title="Lines",
        columns=[
            Column("what", "Description", Kind.PROSE),
            Column("streams", "Streams", Kind.COUNT),
            Column("exact", "Exact", Kind.EXACT_MONEY),
            Column("billed", "Billed", Kind.MONEY),
        ],
        rows=[
            {
                "what": Cell(describe(line), _line_href(stored, line.sum.kind, line.sum.line_key)),
                "streams": line.sum.stream_count or None,
                "exact": line.sum.usd_cents,
                "billed": Decimal(line.billed_cents),
            }
            for line in mine.lines
        ],
        total={
            "what": "Sum",
            "exact": EXACT.subtract(
                EXACT.add(mine.exact_usd_cents, mine.carried_in_usd_cents), mine.prepaid_usd_cents
            ),
            "billed": Decimal(mine.billed_cents),
        },
        empty="No lines.",
    )


def _line_href(stored: StoredInvoice, kind: LineKind, line_key: str) -> str | None:
    if kind is LineKind.CARRIED_IN:
        before = stored.invoice.previous_invoice_id
        return invoice_page(before) if before else None
    if kind is LineKind.PREPAID:
        return None
    return link("invoice/entries", invoice_id=stored.invoice.invoice_id, line=line_key)


def entries(request: PageRequest) -> Page:
    """The page of the entries that one line sums."""
    stored = stored_invoice(request)
    wanted = request.query.get("line", "")
    line = next((each for each in stored.invoice.lines if each.sum.line_key == wanted), None)
    limit = request.list_limit("entries", _ENTRIES)
    found = line_entries(request.connection, closed=stored.closed, line=line, limit=limit) if line else None
    if line is None or found is None:
        raise NotFoundError("the invoice has no such line, or the line has no entries")
    customer_id = stored.invoice.customer_id
    table = Table(
        name="entries",
        title=describe(line),
        columns=[
            Column("at", "Time", Kind.TIME),
            Column("what", "Kind"),
            Column("stream_id", "Stream", Kind.CODE),
            Column("id", "ID", Kind.CODE),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "at": each.at,
                "what": each.what.replace("_", " "),
                "stream_id": stream_cell(customer_id, each.stream_id),
                "id": each.id,
                "amount": each.usd_cents,
            }
            for each in found.entries
        ],
        total={"at": None, "what": f"All {found.count:,} entries", "amount": found.usd_cents},
        empty="No entries.",
        note=f"The first {limit:,} of {found.count:,}. Exports contain all of them."
        if found.count > limit
        else "",
        whole=found.count <= limit,
    )
    return Page(
        template="entries.html.j2",
        title=f"Entries of {stored.number}",
        section="invoices",
        crumbs=[("Invoices", link("invoices")), (stored.number, invoice_page(stored.invoice.invoice_id))],
        context={"table": table, "line": line, "agrees": found.usd_cents == line.sum.usd_cents},
        tables=[table],
    )
