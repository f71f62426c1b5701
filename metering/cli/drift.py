"""`metering drift`: differences from Stripe that reconciliations found."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from metering.cli.options import AsJson, Limit, OnlyCustomer, time_text
from metering.cli.service import database
from metering.core.period import BillingPeriod
from metering.customers.queries.customers import customer_names
from metering.server.terminal.output import say, show
from metering.stripe.queries.pushes import DriftView, list_drift
from metering.stripe.queries.reconciliations import drift_left, reconciled_at

app = typer.Typer()


@app.command("list", epilog="Example: metering drift list --period 2026-10")
def list_them(
    period: Annotated[str | None, typer.Option(help="Only this month, e.g. 2026-10.")] = None,
    customer: OnlyCustomer = None,
    reconciliation: Annotated[str | None, typer.Option(help="Only what this reconciliation found, rec_….")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List what reconciliations found, newest first, with how it was repaired."""
    month = str(BillingPeriod.parse(period)) if period else None
    with database() as connection:
        at = reconciled_at(connection)
        found = list_drift(
            connection,
            customer_id=customer,
            period=month,
            reconciliation_id=reconciliation,
            before=None,
            limit=limit,
        )
        left = drift_left(connection)
        names = customer_names(connection, {each.customer_id for each in found if each.customer_id})
    never = "nothing was compared with Stripe yet: run `metering reconcile`"
    show(
        [_row(each, names) for each in found],
        as_json=as_json,
        empty="no reconciliation found a difference" if at else never,
        important=("customer_id", "period", "class", "drift_cents", "repaired"),
    )
    if found and not as_json:
        still_open = sum(each.findings for each in left)
        say(f"{still_open:,} findings are open; the last reconciliation ended {at:%Y-%m-%d %H:%M} UTC")


def _row(each: DriftView, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "found_at": time_text(each.found_at),
        "customer_id": each.customer_id,
        "customer_name": names.get(each.customer_id or ""),
        "period": each.period,
        "class": each.drift_class,
        "drift_cents": each.drift_cents,
        "repaired": each.repaired_at is not None,
        "detail": each.detail,
        "remedy": each.remedy,
        "repair": each.repair,
        "invoice_id": each.invoice_id,
        "stripe_invoice_id": each.stripe_invoice_id,
        "reconciliation_id": each.reconciliation_id,
        "repaired_at": time_text(each.repaired_at),
    }
