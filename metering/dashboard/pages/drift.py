"""The reconciliation page: differences (drift) between our invoices and Stripe's, and their repairs."""

from collections.abc import Sequence
from decimal import Decimal

from metering.core.cursors import parse_number, parse_time, time_part
from metering.dashboard.links import customer_cell, invoice_cell, safe_url
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.stripe.drift import DriftClass
from metering.stripe.queries.drift_history import DriftEpisode, list_drift_history
from metering.stripe.queries.reconciliations import ReconciliationView, drift_left, last_reconciliations

_PAGE, _RUNS = 100, 10


def drift(request: PageRequest) -> Page:
    """The page. A key bound to a customer sees that customer's findings only."""
    customer_id = request.customer(request.text("customer_id"))
    limit, position = request.page_limit("drift", _PAGE), request.position(3)
    found = list_drift_history(
        request.connection,
        customer_id=customer_id,
        period=request.text("month"),
        reconciliation_id=request.text("reconciliation"),
        before=(parse_time(position[0]), position[1], parse_number(position[2])) if position else None,
        limit=limit + 1,
    )
    more = _more(request, found[limit - 1]) if len(found) > limit else None
    runs = last_reconciliations(request.connection, limit=_RUNS) if request.viewer.customer_id is None else []
    tables = [_findings(found[:limit], more, compared=bool(runs), for_file=request.for_file)]
    if request.viewer.customer_id is None:
        tables.append(_runs(runs))
    return Page(
        template="drift.html.j2",
        title="Reconciliation",
        section="drift",
        context={"tables": tables, "last": runs[0] if runs else None, "left": drift_left(request.connection)},
        tables=tables,
    )


def _more(request: PageRequest, last: DriftEpisode) -> str:
    return request.next_page("drift", [time_part(last.last_seen), last.reconciliation_id, str(last.finding)])


def _findings(found: Sequence[DriftEpisode], more: str | None, *, compared: bool, for_file: bool) -> Table:
    return Table(
        name="drift",
        title="Findings, each once",
        columns=[
            Column("customer_id", "Customer"),
            Column("drift", "Difference", Kind.EXACT_MONEY),
            Column("ours", "Ours", Kind.EXACT_MONEY),
            Column("theirs", "Stripe", Kind.EXACT_MONEY),
            Column("status", "Status", Kind.STATE),
            Column("drift_class", "What differs"),
            Column("invoice", "Invoice", Kind.CODE),
            Column("first_seen", "First seen", Kind.TIME),
            Column("repaired_at", "Repaired", Kind.TIME),
            Column("stripe_invoice_id", "At Stripe", Kind.CODE),
            Column("detail", "Details", Kind.PROSE),
            Column("remedy", "Remedy"),
            Column("repair", "Repair", Kind.PROSE),
            Column("period", "Month"),
            Column("last_seen", "Last seen", Kind.TIME),
        ],
        rows=[_finding(each, for_file=for_file) for each in found],
        more=more,
        sorted_by="-last_seen",
        note="The difference is what Stripe has minus what it should have. A finding that the next reconciliation"
        " repeats is the same one."
        if found
        else "",
        empty=(
            "No differences found."
            if compared
            else "No reconciliation yet. Run `metering reconcile`; beat runs it daily once there are invoices."
        ),
    )


_CLASSES = {
    DriftClass.MISSING: "missing at Stripe",
    DriftClass.AMOUNT: "total",
    DriftClass.LINE: "amount of a line",
    DriftClass.EXTRA_LINE: "line that is not ours",
    DriftClass.DUPLICATE_LINE: "line that is there twice",
    DriftClass.DUPLICATE_INVOICE: "invoice that is there twice",
    DriftClass.EXTRA_INVOICE: "invoice that is not ours",
    DriftClass.WRONG_CUSTOMER: "customer",
    DriftClass.WRONG_CURRENCY: "currency",
    DriftClass.WRONG_PERIOD: "month",
    DriftClass.STATE: "state",
    DriftClass.SETTLEMENT: "payment",
}


def _finding(each: DriftEpisode, *, for_file: bool) -> Row:
    words = _CLASSES[DriftClass(each.drift_class)]
    return {
        "customer_id": customer_cell(each.customer_id),
        "period": each.period,
        "drift_class": each.drift_class if for_file else words,
        "drift": Decimal(each.drift_cents),
        "ours": None if each.ours_cents is None else Decimal(each.ours_cents),
        "theirs": Decimal(each.theirs_cents),
        "status": each.status.value,
        "first_seen": each.first_seen,
        "last_seen": each.last_seen,
        "repaired_at": each.repaired_at,
        "invoice": invoice_cell(each.number, each.invoice_id),
        "stripe_invoice_id": Cell(each.stripe_invoice_id, safe_url(each.stripe_url)),
        "detail": each.detail,
        "remedy": each.remedy.replace("_", " "),
        "repair": each.repair,
    }


def _runs(runs: Sequence[ReconciliationView]) -> Table:
    return Table(
        name="reconciliations",
        title="Latest reconciliations",
        columns=[
            Column("started_at", "Started", Kind.TIME),
            Column("period", "Month"),
            Column("requested_by", "Requested by"),
            Column("compared", "Invoices compared", Kind.COUNT),
            Column("ours", "Ours", Kind.EXACT_MONEY),
            Column("theirs", "Stripe", Kind.EXACT_MONEY),
            Column("found", "Findings", Kind.COUNT),
            Column("left", "Not repaired", Kind.COUNT),
        ],
        rows=[
            {
                "started_at": each.started_at,
                "period": each.period or "all",
                "requested_by": each.requested_by,
                "compared": each.compared,
                "ours": Decimal(each.ours_cents),
                "theirs": Decimal(each.theirs_cents),
                "found": each.found,
                "left": each.left,
            }
            for each in runs
        ],
        empty="No reconciliation has finished yet.",
    )
