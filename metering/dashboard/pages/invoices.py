"""The invoices page: the invoices of a month by status, with their sums, as Stripe was last read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from metering.core.period import BillingPeriod
from metering.dashboard.links import customer_cell, invoice_cell, link, safe_url
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.months.queries.invoices import get_invoices
from metering.months.store.invoices import StoredInvoice
from metering.stripe.invoice_status import EXPLANATIONS, InvoiceStatus, status_of
from metering.stripe.push import UNDER_WAY, PushState
from metering.stripe.queries.pushes import PushView, push_views
from metering.stripe.queries.statuses import (
    MOST_COUNTED,
    StatusFilter,
    StatusSum,
    invoices_by_status,
    newest_invoiced,
    sums_by_status,
    sums_to_do,
)

_PAGE = 100
_EMPTY = "No invoice matches. Close a month with `metering invoices run --period 2026-10`; beat also does."

_NAMES = {
    InvoiceStatus.DRAFT: "Draft",
    InvoiceStatus.OPEN: "Open",
    InvoiceStatus.PAID: "Paid",
    InvoiceStatus.PAST_DUE: "Past due",
    InvoiceStatus.ATTENTION: "Needs attention",
}
# A customer has no use for what is between us and Stripe.
_OF_STAFF = frozenset({InvoiceStatus.DRAFT, InvoiceStatus.ATTENTION})

_COLUMNS = (
    Column("number", "Number"),
    Column("customer_id", "Customer"),
    Column("billed", "Billed", Kind.MONEY),
    Column("period", "Month"),
    Column("status", "Status", Kind.STATE),
    Column("due", "Due", Kind.DAY),
    Column("sync", "Stripe", Kind.STATE),
    Column("exact", "Exact", Kind.EXACT_MONEY),
    Column("carried_in", "Carried from previous", Kind.EXACT_MONEY),
    Column("remainder", "Carried to next", Kind.EXACT_MONEY),
    Column("stripe", "Stripe number"),
)
_WHY = Column("why", "What to do", Kind.PROSE)
# What has to be done stands before the exact amounts.
_WITH_WHY = (*_COLUMNS[:7], _WHY, *_COLUMNS[7:])


@dataclass(frozen=True, slots=True)
class Tab:
    """A status with its invoices and what they bill; None where that is not counted."""

    name: str
    href: str
    current: bool
    count: int | None
    billed_cents: int | None
    capped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a request is about. Without a month it is about all months."""

    status: InvoiceStatus | None
    period: BillingPeriod | None
    customer_id: str | None
    state: str | None

    @property
    def month(self) -> str | None:
        return str(self.period) if self.period else None

    def filter(self) -> StatusFilter:
        return StatusFilter(status=self.status, customer_id=self.customer_id, period=self.month, state=self.state)


def invoices(request: PageRequest) -> Page:
    """The page of invoices: of the newest month, unless another month or all of them are requested."""
    wanted = _wanted(request)
    limit, position = request.page_limit("invoices", _PAGE), request.position(2)
    before = (position[0], position[1]) if position else None
    keys = invoices_by_status(
        request.connection, where=wanted.filter(), before=before, limit=limit + 1, now=request.now
    )
    stored = get_invoices(request.connection, keys[:limit])
    shown = [stored[invoice_id] for _, invoice_id in keys[:limit]]
    more = None
    if len(keys) > limit:
        last = shown[-1].invoice
        more = request.next_page("invoices", [str(last.period), last.customer_id])
    sums = _sums(request, wanted)
    table = invoice_table(
        request,
        shown,
        more=more,
        empty=request.words(_EMPTY, to_customer="No invoice matches."),
        with_why=wanted.status is InvoiceStatus.ATTENTION or wanted.state is not None,
        total=_total(wanted, sums),
        fixed=frozenset(name for name, given in (("period", wanted.period),) if given),
    )
    return Page(
        template="invoices.html.j2",
        title="Invoices",
        section="invoices",
        context={
            "table": table,
            "tabs": _tabs(request, wanted, sums),
            "period": wanted.period,
            "files_of": wanted.month or _newest_of_customer(request, wanted),
            "state": wanted.state,
            "status": wanted.status.value if wanted.status else None,
            "customer_id": wanted.customer_id,
            "elsewhere": _elsewhere(request, wanted, sums),
            "all_months": link("invoices", month="", **_kept(wanted)),
        },
        tables=[table],
    )


def _wanted(request: PageRequest) -> _Wanted:
    month = request.text("month")
    state = request.one_of("state", tuple(PushState))
    status = request.one_of("status", tuple(InvoiceStatus))
    customer_id = request.customer(request.text("customer_id"))
    if month is None and "month" not in request.query and state is None and customer_id is None:
        month = newest_invoiced(request.connection, customer_id=None)
    return _Wanted(
        status=InvoiceStatus(status) if status else None,
        period=BillingPeriod.parse(month) if month else None,
        customer_id=customer_id,
        state=state,
    )


def _newest_of_customer(request: PageRequest, wanted: _Wanted) -> str | None:
    if wanted.customer_id is None:
        return None
    return newest_invoiced(request.connection, customer_id=wanted.customer_id)


_Sums = Mapping[InvoiceStatus, StatusSum]


def _sums(request: PageRequest, wanted: _Wanted) -> _Sums | None:
    """The sums of the month or the customer; of all months of all customers, only what is still to do."""
    if wanted.period is None and wanted.customer_id is None:
        return None
    return sums_by_status(request.connection, period=wanted.month, customer_id=wanted.customer_id, now=request.now)


def _kept(wanted: _Wanted) -> dict[str, str | None]:
    return {"status": wanted.status.value if wanted.status else None, "customer_id": wanted.customer_id}


def _tabs(request: PageRequest, wanted: _Wanted, sums: _Sums | None) -> Sequence[Tab]:
    month = wanted.month or ""
    to_do = sums_to_do(request.connection, now=request.now) if sums is None else {}
    names = {
        status: name
        for status, name in _NAMES.items()
        if request.viewer.customer_id is None or status not in _OF_STAFF
    }
    tabs = [_tab(wanted, None, "All", month, list(sums.values()) if sums is not None else None)]
    for status, name in names.items():
        found = to_do.get(status) if sums is None else sums.get(status, StatusSum())
        tabs.append(_tab(wanted, status, name, month, None if found is None else [found]))
    return tabs


def _tab(
    wanted: _Wanted, status: InvoiceStatus | None, name: str, month: str, found: Sequence[StatusSum] | None
) -> Tab:
    count = None if found is None else sum(each.count for each in found)
    return Tab(
        name=name,
        href=link(
            "invoices", month=month, customer_id=wanted.customer_id, status=status.value if status else None
        ),
        current=wanted.status is status and wanted.state is None,
        count=count,
        billed_cents=None if found is None else sum(each.billed_cents for each in found),
        capped=wanted.period is None and wanted.customer_id is None and count == MOST_COUNTED,
    )


def _elsewhere(request: PageRequest, wanted: _Wanted, sums: _Sums | None) -> Sequence[Tab]:
    """What is still to do in other months than the one that is shown."""
    if wanted.customer_id is not None or wanted.period is None or sums is None:
        return ()
    found = sums_to_do(request.connection, now=request.now)
    tabs = []
    for status in (InvoiceStatus.PAST_DUE, InvoiceStatus.ATTENTION):
        here, all_months = sums.get(status, StatusSum()), found[status]
        tabs.append(
            Tab(
                name=_NAMES[status].lower(),
                href=link("invoices", month="", status=status.value),
                current=False,
                count=all_months.count - here.count,
                billed_cents=all_months.billed_cents - here.billed_cents,
                capped=all_months.count == MOST_COUNTED,
            )
        )
    return [tab for tab in tabs if tab.count and tab.count > 0]


def _total(wanted: _Wanted, sums: _Sums | None) -> Row | None:
    """The sum of all invoices of the tab, on whatever page of the list they are."""
    if sums is None or wanted.state is not None:
        return None
    chosen = list(sums.values()) if wanted.status is None else [sums.get(wanted.status, StatusSum())]
    count = sum(each.count for each in chosen)
    return {
        "number": f"Sum of {count:,}",
        "billed": Decimal(sum(each.billed_cents for each in chosen)),
        "exact": sum((each.exact_usd_cents for each in chosen), Decimal(0)),
        "carried_in": sum((each.carried_in_usd_cents for each in chosen), Decimal(0)),
        "remainder": sum((each.remainder_usd_cents for each in chosen), Decimal(0)),
    }


def invoice_table(
    request: PageRequest,
    found: Sequence[StoredInvoice],
    *,
    empty: str,
    more: str | None = None,
    whole: bool = True,
    with_why: bool = False,
    total: Row | None = None,
    fixed: frozenset[str] = frozenset(),
) -> Table:
    """A table of invoices, without the columns that are `fixed` by the filter."""
    pushes = push_views(
        request.connection, [(each.invoice.customer_id, each.invoice.invoice_id) for each in found]
    )
    of_staff = request.viewer.customer_id is None
    left_out = frozenset() if request.for_file else fixed
    if not of_staff:
        left_out |= {"customer_id", "sync", "why"}
    return Table(
        name="invoices",
        title="Invoices, newest month first",
        columns=[each for each in (_WITH_WHY if with_why else _COLUMNS) if each.key not in left_out],
        rows=[_row(request, each, pushes[each.invoice.invoice_id]) for each in found],
        empty=empty,
        more=more,
        whole=whole,
        total=total,
    )


def _row(request: PageRequest, stored: StoredInvoice, push: PushView) -> Row:
    invoice = stored.invoice
    return {
        "number": invoice_cell(stored.number, invoice.invoice_id),
        "customer_id": customer_cell(invoice.customer_id),
        "period": str(invoice.period),
        "status": shown_status(request, push),
        "billed": Decimal(invoice.billed_cents),
        "due": push.payment_due_at,
        "sync": sync_of(push),
        "why": " ".join(filter(None, (EXPLANATIONS[push.state], push.problem))),
        "exact": invoice.exact_usd_cents,
        "carried_in": invoice.carried_in_usd_cents,
        "remainder": invoice.remainder_usd_cents,
        "stripe": Cell(push.stripe_number, safe_url(push.stripe_url)),
    }


def shown_status(request: PageRequest, push: PushView) -> str:
    """The status of an invoice; to its customer, one that is not at Stripe yet is a draft."""
    status = status_of(push.state, payment_due_at=push.payment_due_at, now=request.now)
    if status is InvoiceStatus.ATTENTION and request.viewer.customer_id is not None:
        return InvoiceStatus.DRAFT.value
    return status.value


# Whether Stripe has what we have, in a word beside an icon.
_SYNC = {
    PushState.UNKNOWN: "retrying",
    PushState.STUCK: "stuck",
    PushState.UNLINKED: "not_linked",
    PushState.DEFERRED: "not_sent",
}


def sync_of(push: PushView) -> str:
    """Whether Stripe has the invoice as it is."""
    return _SYNC.get(push.state, "writing" if push.state in UNDER_WAY else "in_sync")
