"""The reconciliation page: differences (drift) between our invoices and Stripe's, and their repairs."""

from collections.abc import Sequence
from decimal import Decimal

from metering.core.cursors import parse_number, parse_time, time_part
from metering.dashboard.links import customer_cell, invoice_cell
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Column, Kind, Row, Table
from metering.stripe.queries.pushes import DriftView, list_drift
from metering.stripe.queries.reconciliations import ReconciliationView, drift_left, last_reconciliations

_PAGE, _RUNS = 100, 10


def drift(request: PageRequest) -> Page:
    """The page. A key bound to a customer sees that customer's findings only."""
    customer_id = request.customer(request.text("customer_id"))
    limit, position = request.page_limit("drift", _PAGE), request.position(3)
    found = list_drift(
        request.connection,
        customer_id=customer_id,
        period=request.text("month"),
        reconciliation_id=request.text("reconciliation"),
        before=(parse_time(position[0]), position[1], parse_number(position[2])) if position else None,
        limit=limit + 1,
    )
    more = _more(request, found[limit - 1]) if len(found) > limit else None
    runs = last_reconciliations(request.connection, limit=_RUNS) if request.viewer.customer_id is None else []
    tables = [_findings(found[:limit], more, compared=bool(runs))]
    if request.viewer.customer_id is None:
        tables.append(_runs(runs))
    return Page(
        template="drift.html.j2",
        title="Reconciliation",
        section="drift",
        context={"tables": tables, "last": runs[0] if runs else None, "left": drift_left(request.connection)},
        tables=tables,
    )


def _more(request: PageRequest, last: DriftView) -> str:
    return request.next_page("drift", [time_part(last.found_at), last.reconciliation_id, str(last.finding)])


def _findings(found: Sequence[DriftView], more: str | None, *, compared: bool) -> Table:
    return Table(
        name="drift",
        title="Findings, newest first",
        columns=[
            Column("found_at", "Found", Kind.TIME),
            Column("customer_id", "Customer"),
            Column("period", "Month"),
            Column("drift_class", "Class", Kind.STATE),
            Column("drift", "Difference (Stripe minus ours)", Kind.EXACT_MONEY),
            Column("detail", "Details", Kind.PROSE),
            Column("remedy", "Remedy"),
            Column("repair", "Repair", Kind.PROSE),
        ],
        rows=[_finding(each) for each in found],
        more=more,
        empty=(
            "No differences found."
            if compared
            else "No reconciliation yet. Run `metering reconcile`; beat runs it daily once there are invoices."
        ),
    )


def _finding(each: DriftView) -> Row:
    return {
        "found_at": each.found_at,
        "customer_id": customer_cell(each.customer_id),
        "period": invoice_cell(each.period, each.invoice_id),
        "drift_class": each.drift_class,
        "drift": Decimal(each.drift_cents),
        "detail": each.detail,
        "remedy": each.remedy.replace("_", " "),
        "repair": each.repair or ("not repaired" if each.repaired_at is None else "repaired"),
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
