"""Invoices: where each is at Stripe; one with its lines and its rounding; and the entries that a line sums."""

from collections.abc import Sequence
from decimal import Decimal

from metering.core.money import EXACT
from metering.core.period import BillingPeriod
from metering.dashboard.asking import Asked, Page, link
from metering.dashboard.errors import NoSuchThingError
from metering.dashboard.links import customer_page, invoice_page, stream_page
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
    Column("state", "At Stripe", Kind.STATE),
    Column("billed", "Billed", Kind.MONEY),
    Column("exact", "Exact", Kind.EXACT_MONEY),
    Column("carried_in", "Carried in", Kind.EXACT_MONEY),
    Column("remainder", "Carried on", Kind.EXACT_MONEY),
    Column("lines", "Lines", Kind.COUNT),
    Column("stripe", "Stripe's number"),
)


def invoices(asked: Asked) -> Page:
    """The page of invoices."""
    month = asked.text("month")
    period = str(BillingPeriod.parse(month)) if month else None
    state = asked.one_of("state", tuple(PushState))
    customer_id = asked.customer(asked.text("customer_id"))
    limit, position = asked.page_of("invoices", _PAGE), asked.position(2)
    where = InvoiceFilter(customer_id=customer_id, period=period, state=state)
    before = (position[0], position[1]) if position else None
    found = list_invoices(asked.connection, where=where, before=before, limit=limit + 1)
    shown = found[:limit]
    more = None
    if len(found) > limit:
        last = shown[-1].invoice
        more = asked.further("invoices", [str(last.period), last.customer_id])
    table = invoice_table(
        asked,
        shown,
        more=more,
        empty="No invoice matches. A month is closed with `metering invoices run --period 2026-10`, or by beat.",
    )
    # The newest month's sums and files, unless another one is asked for.
    told = period or (str(shown[0].invoice.period) if shown else None)
    return Page(
        template="invoices.html.j2",
        title="Invoices",
        section="invoices",
        context={
            "table": table,
            "by_state": pushes_by_state(asked.connection, period=told, only=customer_id) if told else [],
            "told": told,
            "period": period,
            "state": state,
            "states": list(PushState),
            "customer_id": customer_id,
        },
        tables=[table],
    )


def invoice_table(
    asked: Asked, found: Sequence[StoredInvoice], *, empty: str, more: str | None = None, whole: bool = True
) -> Table:
    """Invoices as rows."""
    pushes = push_views(asked.connection, [(each.invoice.customer_id, each.invoice.invoice_id) for each in found])
    return Table(
        name="invoices",
        title="Invoices, the newest month first",
        columns=_COLUMNS,
        rows=[_row(each, pushes[each.invoice.invoice_id]) for each in found],
        empty=empty,
        more=more,
        whole=whole,
    )


def _row(stored: StoredInvoice, push: PushView) -> Row:
    invoice = stored.invoice
    return {
        "number": Cell(stored.number, invoice_page(invoice.invoice_id)),
        "customer_id": Cell(invoice.customer_id, customer_page(invoice.customer_id)),
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
    """An address at Stripe, if it is one that a browser may be sent to."""
    return url if url is not None and url.startswith(("https://", "http://")) else None


def stored_invoice(asked: Asked) -> StoredInvoice:
    """The invoice that is asked for, if the viewer may see it."""
    wanted = asked.id("invoice_id")
    stored = find_invoice(asked.connection, invoice_id=wanted)
    if stored is None or asked.viewer.customer_id not in (None, stored.invoice.customer_id):
        raise NoSuchThingError(f"there is no invoice {wanted!r}")
    return stored


def invoice(asked: Asked) -> Page:
    """The page of one invoice."""
    stored = stored_invoice(asked)
    mine = stored.invoice
    push = push_views(asked.connection, [(mine.customer_id, mine.invoice_id)])[mine.invoice_id]
    findings = list_drift(
        asked.connection, customer_id=mine.customer_id, period=str(mine.period), reconciliation_id=None,
        before=None, limit=_PAGE,
    )  # fmt: skip
    table = _lines(stored)
    return Page(
        template="invoice.html.j2",
        title=f"Invoice {stored.number}",
        section="invoices",
        zone=stored.closed.time_zone,
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
            Column("what", "What", Kind.PROSE),
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
            "exact": EXACT.add(mine.exact_usd_cents, mine.carried_in_usd_cents),
            "billed": Decimal(mine.billed_cents),
        },
        empty="It has no lines.",
    )


def _line_href(stored: StoredInvoice, kind: LineKind, line_key: str) -> str | None:
    if kind is LineKind.CARRIED_IN:
        before = stored.invoice.previous_invoice_id
        return invoice_page(before) if before else None
    return link("invoice/entries", invoice_id=stored.invoice.invoice_id, line=line_key)


def entries(asked: Asked) -> Page:
    """The entries of one line: what it sums, each leading to its stream."""
    stored = stored_invoice(asked)
    wanted = asked.query.get("line", "")
    line = next((each for each in stored.invoice.lines if each.sum.line_key == wanted), None)
    limit = asked.all_of("entries", _ENTRIES)
    found = line_entries(asked.connection, closed=stored.closed, line=line, limit=limit) if line else None
    if line is None or found is None:
        raise NoSuchThingError("the invoice has no such line, or it sums no entries")
    customer_id = stored.invoice.customer_id
    table = Table(
        name="entries",
        title=describe(line),
        columns=[
            Column("at", "When", Kind.MOMENT),
            Column("what", "What"),
            Column("stream_id", "Stream", Kind.CODE),
            Column("id", "Id", Kind.CODE),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "at": each.at,
                "what": each.what.replace("_", " "),
                "stream_id": Cell(
                    each.stream_id, stream_page(customer_id, each.stream_id) if each.stream_id else None
                ),
                "id": each.id,
                "amount": each.usd_cents,
            }
            for each in found.entries
        ],
        total={"at": None, "what": f"All {found.count:,} entries", "amount": found.usd_cents},
        empty="It sums no entries.",
        note=f"The first {limit:,} of {found.count:,}; exports have all of them." if found.count > limit else "",
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
