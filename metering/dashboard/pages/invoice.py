"""The page of one invoice, as its customer sees it, with its way to Stripe; and the entries of a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from metering.core.money import decimals_of
from metering.customers.queries.customers import get_customer
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_page, invoice_page, link, safe_url, stream_cell
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.pages.invoices import shown_status, sync_of
from metering.dashboard.tables import Cell, Column, Kind, Table
from metering.months.invoice import InvoiceLine, LineKind, describe
from metering.months.line_rates import RateRow, RatesOfLines, quantity_text, rate_decimals, rate_rows
from metering.months.queries.invoices import find_invoice, line_entries
from metering.months.queries.line_rates import kept_line_rates
from metering.months.store.invoices import StoredInvoice
from metering.stripe.bill_to import BillTo
from metering.stripe.invoice_status import EXPLANATIONS, InvoiceStatus
from metering.stripe.push import AT_STRIPE, PushState
from metering.stripe.queries.drift_history import DriftStatus, list_drift_history
from metering.stripe.queries.pushes import PushView, push_views, pushed_at

_FINDINGS, _ENTRIES = 100, 500


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the timeline; `at` is None where it has not happened or has no time."""

    title: str
    at: datetime | None
    detail: str
    done: bool


@dataclass(frozen=True, slots=True)
class ShownLine:
    """A line of the invoice with its rows of quantity x rate."""

    line: InvoiceLine
    what: Cell
    rates: Sequence[RateRow]


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
    key = (mine.customer_id, mine.invoice_id)
    push = push_views(request.connection, [key])[mine.invoice_id]
    rates = kept_line_rates(request.connection, [key])[mine.invoice_id]
    of_staff = request.viewer.customer_id is None
    found = list_drift_history(
        request.connection, customer_id=mine.customer_id, period=str(mine.period), reconciliation_id=None,
        before=None, limit=_FINDINGS,
    )  # fmt: skip
    lines = _lines(stored, rates)
    tables = [_lines_table(lines), _rates_table(lines)]
    amounts = [row.usd_cents for each in lines for row in each.rates] + [each.line.sum.usd_cents for each in lines]
    carried = next((each.line for each in lines if each.line.sum.kind is LineKind.CARRIED_IN), None)
    return Page(
        template="invoice.html.j2",
        title=f"Invoice {stored.number}",
        section="invoices",
        customer_id=mine.customer_id,
        calendar=f"Days and months are in {stored.closed.time_zone}." if stored.closed.time_zone != "UTC" else "",
        crumbs=[("Invoices", link("invoices")), (mine.customer_id, customer_page(mine.customer_id))],
        context={
            "stored": stored,
            "push": push,
            "status": shown_status(request, push),
            "sync": sync_of(push) if of_staff else None,
            "explanation": EXPLANATIONS[push.state] if of_staff else "",
            "stripe_url": safe_url(push.stripe_url),
            "bill_to": push.bill_to or BillTo(),
            "customer": get_customer(request.connection, customer_id=mine.customer_id, now=request.now),
            "shown_lines": [each for each in lines if each.line.sum.kind is not LineKind.CARRIED_IN],
            "carried": carried,
            "billed": Decimal(mine.billed_cents),
            "exact_total": mine.total_usd_cents,
            "decimals": decimals_of([*amounts, mine.remainder_usd_cents, mine.exact_usd_cents]),
            "rate_decimals": rate_decimals(row for each in lines for row in each.rates),
            "timeline": _timeline(request, stored, push),
            "tables": tables,
            "findings": [each for each in found if each.status is DriftStatus.OPEN] if of_staff else [],
            "before": invoice_page(mine.previous_invoice_id) if mine.previous_invoice_id else None,
        },
        tables=tables,
    )


def _lines(stored: StoredInvoice, rates: RatesOfLines) -> list[ShownLine]:
    return [
        ShownLine(
            line,
            Cell(describe(line), _line_href(stored, line.sum.kind, line.sum.line_key)),
            rate_rows(rates.get(line.sum.line_key, ())),
        )
        for line in stored.invoice.lines
    ]


def _lines_table(lines: Sequence[ShownLine]) -> Table:
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
                "what": each.what,
                "streams": each.line.sum.stream_count or None,
                "exact": each.line.sum.usd_cents,
                "billed": Decimal(each.line.billed_cents),
            }
            for each in lines
        ],
        empty="No lines.",
    )


def _rates_table(lines: Sequence[ShownLine]) -> Table:
    return Table(
        name="rates",
        title="Quantities and rates",
        columns=[
            Column("line", "Line", Kind.PROSE),
            Column("what", "Kind"),
            Column("quantity", "Quantity"),
            Column("rate", "Rate"),
            Column("amount", "Amount", Kind.EXACT_MONEY),
        ],
        rows=[
            {
                "line": each.line.sum.line_key,
                "what": row.what,
                "quantity": "" if row.quantity is None else quantity_text(row.quantity).replace(",", ""),
                "rate": row.rate(),
                "amount": row.usd_cents,
            }
            for each in lines
            for row in each.rates
        ],
        empty="No rates.",
    )


def _timeline(request: PageRequest, stored: StoredInvoice, push: PushView) -> Sequence[Step]:
    """From the closed month to the payment, as far as it has come; times as Stripe was last read."""
    closed = stored.closed
    by = "" if request.viewer.customer_id is not None else f"by {closed.closed_by}"
    forced = f"; forced: {closed.force_reason}" if by and closed.force_reason else ""
    steps = [Step("Closed", closed.closed_at, f"{by}{forced}", True)]
    if push.state is PushState.DEFERRED:
        return [*steps, Step("Carried over", None, "nothing is billed below the minimum", True)]
    mine, at_stripe = stored.invoice, push.state in AT_STRIPE
    pushed = pushed_at(request.connection, customer_id=mine.customer_id, invoice_id=mine.invoice_id)
    is_paid, late = push.state is PushState.PAID, shown_status(request, push) == InvoiceStatus.PAST_DUE
    if not request.is_customers:
        is_there = at_stripe or pushed is not None
        steps.append(Step("Pushed", pushed, "" if is_there else "not at Stripe yet", is_there))
    steps.append(Step("Finalized", push.finalized_at, "", at_stripe))
    if push.state in (PushState.VOID, PushState.UNCOLLECTIBLE):
        return [
            *steps,
            Step(push.state.value.capitalize(), None, "" if request.is_customers else "at Stripe", True),
        ]
    undated = (
        request.words("no due date at Stripe", to_customer="no due date")
        if at_stripe and push.payment_due_at is None
        else ""
    )
    steps.append(Step("Due", push.payment_due_at, "past due" if late else undated, is_paid or late))
    steps.append(Step("Paid", push.paid_at, "" if is_paid else "not yet", is_paid))
    return steps


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
        customer_id=stored.invoice.customer_id,
        crumbs=[("Invoices", link("invoices")), (stored.number, invoice_page(stored.invoice.invoice_id))],
        context={"table": table, "line": line, "agrees": found.usd_cents == line.sum.usd_cents},
        tables=[table],
    )
