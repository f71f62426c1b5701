"""Drift: what Stripe has otherwise than we do, by the last reconciliations, and what was done about it."""

from collections.abc import Sequence
from decimal import Decimal

from metering.core.cursors import moment_in, number_in
from metering.dashboard.asking import Asked, Page
from metering.dashboard.links import customer_page, invoice_page
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.stripe.queries.pushes import DriftView, list_drift
from metering.stripe.queries.reconciliations import ReconciliationView, drift_left, last_reconciliations

_PAGE, _RUNS = 100, 10


def drift(asked: Asked) -> Page:
    """The page of drift. A viewer of one customer sees that one's findings only."""
    customer_id = asked.customer(asked.text("customer_id"))
    limit, position = asked.page_of("drift", _PAGE), asked.position(3)
    found = list_drift(
        asked.connection,
        customer_id=customer_id,
        period=asked.text("month"),
        reconciliation_id=asked.text("reconciliation"),
        before=(moment_in(position[0]), position[1], number_in(position[2])) if position else None,
        limit=limit + 1,
    )
    more = _more(asked, found[limit - 1]) if len(found) > limit else None
    runs = last_reconciliations(asked.connection, limit=_RUNS) if asked.viewer.customer_id is None else []
    tables = [_findings(found[:limit], more, compared=bool(runs))]
    if asked.viewer.customer_id is None:
        tables.append(_runs(runs))
    return Page(
        template="drift.html.j2",
        title="Drift",
        section="drift",
        context={"tables": tables, "last": runs[0] if runs else None, "left": drift_left(asked.connection)},
        tables=tables,
    )


def _more(asked: Asked, last: DriftView) -> str:
    return asked.further("drift", [last.found_at.isoformat(), last.reconciliation_id, str(last.finding)])


def _findings(found: Sequence[DriftView], more: str | None, *, compared: bool) -> Table:
    return Table(
        name="drift",
        title="Findings, the newest first",
        columns=[
            Column("found_at", "Found", Kind.MOMENT),
            Column("customer_id", "Customer"),
            Column("period", "Month"),
            Column("drift_class", "Class", Kind.STATE),
            Column("drift", "Stripe minus ours", Kind.EXACT_MONEY),
            Column("detail", "What differs", Kind.PROSE),
            Column("remedy", "Remedy"),
            Column("repair", "What was done", Kind.PROSE),
        ],
        rows=[_finding(each) for each in found],
        more=more,
        empty=(
            "Nothing was found to differ."
            if compared
            else "Nothing was compared yet: run `metering reconcile`; beat does, daily from the first invoice on."
        ),
    )


def _finding(each: DriftView) -> Row:
    return {
        "found_at": each.found_at,
        "customer_id": Cell(each.customer_id, customer_page(each.customer_id) if each.customer_id else None),
        "period": Cell(each.period, invoice_page(each.invoice_id) if each.invoice_id else None),
        "drift_class": each.drift_class,
        "drift": Decimal(each.drift_cents),
        "detail": each.detail,
        "remedy": each.remedy.replace("_", " "),
        "repair": each.repair or ("nothing yet" if each.repaired_at is None else "repaired"),
    }


def _runs(runs: Sequence[ReconciliationView]) -> Table:
    return Table(
        name="reconciliations",
        title="The last reconciliations",
        columns=[
            Column("started_at", "When", Kind.MOMENT),
            Column("period", "Month"),
            Column("requested_by", "By"),
            Column("compared", "Invoices", Kind.COUNT),
            Column("ours", "Ours", Kind.EXACT_MONEY),
            Column("theirs", "At Stripe", Kind.EXACT_MONEY),
            Column("found", "Found", Kind.COUNT),
            Column("left", "Left", Kind.COUNT),
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
        empty="None has come to its end yet.",
    )
