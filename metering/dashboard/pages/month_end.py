"""The month-end page: for each customer, whether its month can be closed, what it will bill, and how far it is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypedDict

from metering.access.scopes import Scope
from metering.core.money import ZERO
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_cell, invoice_cell, link
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import counted
from metering.months.invoice import Invoice
from metering.months.preview_month import MonthPreview, open_customers, preview_customers
from metering.months.queries.invoices import InvoiceFilter, list_invoices
from metering.months.queries.progress import CloseProgress, close_progress, open_streams
from metering.months.run_invoices import RunRequest
from metering.months.store.closing import OpenCustomer
from metering.months.store.runs import InvoiceRun, open_run
from metering.server.outgoing import close_terms
from metering.stripe.push import AT_STRIPE, UNDER_WAY, PushState
from metering.stripe.queries.pushes import StatePushes, push_views, pushes_by_state
from metering.stripe.queries.reconciliations import last_reconciled

# A draft is worked out by reading its entries. To read those of 20,000 streams takes a tenth of a second.
_PREVIEWED, _SHOWN = 50, 200
_MOST_STREAMS = 20_000
_STATUS = {
    PushState.PAID: "paid",
    PushState.VOID: "void",
    PushState.UNCOLLECTIBLE: "uncollectible",
    PushState.FINAL: "pushed",
    PushState.DEFERRED: "carried on",
    PushState.UNLINKED: "unlinked",
    PushState.STUCK: "stuck",
}
_ALL_AMOUNTS = "all"
_BLOCKED, _READY, _CLOSED = "blocked", "ready", "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a month's end: how many customers are at it, and its amount in cents."""

    title: str
    count: int
    detail: str
    usd_cents: Decimal = ZERO


class _Sum(TypedDict):
    count: int
    usd_cents: Decimal


def month_end(request: PageRequest) -> Page:
    """The page. It is of all customers."""
    if request.viewer.customer_id is not None:
        raise NotFoundError("this page is about all customers")
    period = _period(request)
    wanted = RunRequest(period=period, requested_by=request.viewer.actor)
    terms = close_terms(request.service.settings)
    waiting = open_customers(request.connection, request=wanted, terms=terms, now=request.now)
    first = waiting[: request.list_limit("month-end", _PREVIEWED)]
    run = open_run(request.connection)
    drafted = _drafted(request, period, first, is_closing=run is not None)
    preview = preview_customers(
        request.connection, first, request=wanted, terms=terms, now=request.now, drafts_of=drafted
    )
    left = [] if drafted is None else [each for each in first if each.customer_id not in drafted]
    states = pushes_by_state(request.connection, period=str(period), only=None)
    table = _table(request, period, waiting, first, preview, drafted)
    return Page(
        template="month_end.html.j2",
        title=f"Month end: {period.start(time_zone=UTC_ZONE):%B %Y}",
        section="month_end",
        context={
            "period": period,
            "steps": _steps(request, period, waiting, preview, states, is_whole=not left),
            "not_drafted": len(left),
            "table": table,
            "run": run,
            "progress": _progress(request, run),
            "may_close": request.viewer.may(Scope.INVOICES_WRITE),
            "ready": len(waiting) - len(preview.held_up),
            "to_push": sum(each.count for each in states if each.state not in AT_STRIPE | {PushState.DEFERRED}),
            "done": request.text("done"),
        },
        tables=[table],
    )


def _drafted(
    request: PageRequest, period: BillingPeriod, first: Sequence[OpenCustomer], *, is_closing: bool
) -> Collection[str] | None:
    """The customers whose drafts are worked out: those of the fewest streams; None for all, if that is asked for.

    A page that follows a closing run is loaded again and again.
    """
    if request.for_file or (request.one_of("amounts", (_ALL_AMOUNTS,)) and not is_closing):
        return None
    counts = open_streams(request.connection, [each.customer_id for each in first], period=period)
    drafted: list[str] = []
    left = _MOST_STREAMS
    for each in sorted(first, key=lambda one: counts.get(one.customer_id, 0)):
        left -= counts.get(each.customer_id, 0)
        if left < 0:
            break
        drafted.append(each.customer_id)
    return drafted


def _period(request: PageRequest) -> BillingPeriod:
    """The requested month, or the last one that is over."""
    given = request.text("month")
    if given:
        return BillingPeriod.parse(given)
    return BillingPeriod.containing(at=request.now, time_zone=UTC_ZONE).previous


def _progress(request: PageRequest, run: InvoiceRun | None) -> CloseProgress | None:
    if run is None:
        return None
    return close_progress(request.connection, period=str(run.period), run_id=run.run_id, only=run.customer_id)


_NOT_PUSHED = UNDER_WAY | {PushState.UNLINKED, PushState.STUCK}


def _steps(
    request: PageRequest,
    period: BillingPeriod,
    waiting: Sequence[OpenCustomer],
    preview: MonthPreview,
    states: Sequence[StatePushes],
    *,
    is_whole: bool,
) -> Sequence[Step]:
    drafts = [each for each in preview.invoices if each.period == period]
    whole = len(waiting) <= _PREVIEWED and is_whole
    reconciled = last_reconciled(request.connection, period=str(period))
    at_stripe, paid = _sum(states, AT_STRIPE), _sum(states, frozenset({PushState.PAID}))
    return (
        Step(title="Blocked", count=len(preview.held_up), detail="something has to happen first"),
        Step(
            title="Ready to close",
            count=len(waiting) - len(preview.held_up),
            usd_cents=Decimal(sum(each.billed_cents for each in drafts)),
            detail="in draft invoices" if whole else f"in {counted(len(drafts), 'draft invoice')} shown here",
        ),
        Step(title="Closed, not pushed", **_sum(states, _NOT_PUSHED), detail="in invoices not at Stripe yet"),
        Step(title="At Stripe", **at_stripe, detail=f"{paid['count']:,} paid"),
        Step(
            title="Reconciled",
            count=at_stripe["count"] if reconciled else 0,
            detail=f"compared {reconciled:%Y-%m-%d %H:%M}" if reconciled else "not compared yet",
        ),
    )


def _sum(states: Sequence[StatePushes], wanted: Collection[PushState]) -> _Sum:
    found = [each for each in states if each.state in wanted]
    return {
        "count": sum(each.count for each in found),
        "usd_cents": Decimal(sum(each.billed_cents for each in found)),
    }


def _table(
    request: PageRequest,
    period: BillingPeriod,
    waiting: Sequence[OpenCustomer],
    first: Sequence[OpenCustomer],
    preview: MonthPreview,
    drafted: Collection[str] | None,
) -> Table:
    limit = request.list_limit("month-end", _SHOWN)
    where = InvoiceFilter(period=str(period))
    found = list_invoices(request.connection, where=where, before=None, limit=limit + 1)
    shown = found[:limit]
    drafts = {each.customer_id: each for each in preview.invoices if each.period == period}
    rows: list[Row] = [_blocked(customer_id, why) for customer_id, why in sorted(preview.held_up.items())]
    rows += [
        _ready(each.customer_id, drafts.get(each.customer_id), drafted is None or each.customer_id in drafted)
        for each in first
        if each.customer_id not in preview.held_up
    ]
    pushes = push_views(
        request.connection, [(each.invoice.customer_id, each.invoice.invoice_id) for each in shown]
    )
    for stored in shown:
        invoice, push = stored.invoice, pushes[stored.invoice.invoice_id]
        rows.append(
            {
                "customer_id": customer_cell(invoice.customer_id),
                "status": Cell(_STATUS.get(push.state, _CLOSED), note=push.problem),
                "exact": invoice.exact_usd_cents,
                "billed": Decimal(invoice.billed_cents),
                "invoice": invoice_cell(stored.number, invoice.invoice_id),
            }
        )
    return Table(
        name="month-end",
        title="Customers",
        columns=[
            Column("customer_id", "Customer"),
            Column("status", "Status", Kind.STATE),
            Column("billed", "Bills", Kind.MONEY),
            Column("exact", "Exact", Kind.EXACT_MONEY),
            Column("invoice", "Invoice", Kind.CODE),
        ],
        rows=rows,
        whole=len(waiting) == len(first) and len(found) <= limit,
        empty="No customer has a month to close, and none was closed.",
        note="A blocked month waits for its streams: they settle by themselves, or in the backlog.",
    )


def _blocked(customer_id: str, why: str) -> Row:
    backlog = link("backlog", customer_id=customer_id)
    return {
        "customer_id": customer_cell(customer_id),
        "status": Cell(_BLOCKED, backlog, note=why),
    }


def _ready(customer_id: str, draft: Invoice | None, is_known: bool) -> Row:
    nothing = ZERO if is_known else None
    return {
        "customer_id": customer_cell(customer_id),
        "status": _READY,
        "exact": draft.exact_usd_cents if draft else nothing,
        "billed": Decimal(draft.billed_cents) if draft else nothing,
    }
