"""`metering reconcile`: compare our invoices with Stripe's, and repair differences."""

import sys
from decimal import Decimal
from typing import Annotated, Any

import typer

from metering.cli.asking_stripe import stripe_patience, tell_what_is_done
from metering.cli.options import AsJson
from metering.cli.periods import check_begun, month_or_none
from metering.cli.progress import phases
from metering.cli.service import operator
from metering.core.clock import utc_now
from metering.server.bootstrap import build_service
from metering.server.pusher import build_pusher
from metering.server.settings import load_settings
from metering.server.terminal.columns import dollars
from metering.server.terminal.output import counted, say, show, show_one
from metering.stripe.reconcile import reconcile
from metering.stripe.repair_drift import Caps
from metering.stripe.store.reconciliations import FoundDrift

_DRIFT_LEFT = 2


def reconcile_command(
    period: Annotated[str | None, typer.Option(help="Only this month, e.g. 2026-10. Default: all.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what is safe to repair, up to the configured caps.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every invoice with Stripe's and list the differences (drift). Exit code 2: some are not repaired.

    Writes nothing to Stripe without --repair.
    """
    month = month_or_none(period)
    service = build_service(load_settings(), pool_size=10)
    settings = service.settings
    left = "the comparison is not done, repairs made so far are kept; run the command again"
    with tell_what_is_done(lambda: left), phases() as progress:
        report = reconcile(
            pusher=build_pusher(service, patience=stripe_patience()),
            period=month,
            repair=repair,
            caps=Caps(cents=settings.repair_cap_cents, share=settings.repair_cap_share),
            requested_by=operator(),
            progress=progress,
        )
    if not report.compared and not report.found:
        check_begun(month, now=utc_now())
    rows = [_row(each, repaired=each.number in report.repaired) for each in report.found]
    drift = report.theirs_cents - report.ours_cents
    if as_json:
        show_one(
            {
                "reconciliation_id": report.reconciliation_id,
                "compared": report.compared,
                "ours_cents": report.ours_cents,
                "theirs_cents": report.theirs_cents,
                "findings": rows,
                "left": len(report.left),
                "problem": report.problem,
            },
            as_json=True,
        )
    else:
        nothing = f"there are no invoices{f' of {month}' if month else ''}: nothing was compared"
        show(
            rows,
            as_json=False,
            empty="no drift" if report.compared else nothing,
            important=("customer_id", "period", "class", "cents", "repaired"),
        )
        if report.compared or rows:
            print(
                f"{counted(report.compared, 'invoice')} compared: {_dollars(report.ours_cents)} ours,"
                f" {_dollars(report.theirs_cents)} at Stripe, {_dollars(drift)} difference before repairs"
            )
        if report.problem:
            say(f"nothing was repaired: {report.problem}")
    if report.left:
        sys.exit(_DRIFT_LEFT)


def _row(each: FoundDrift, *, repaired: bool) -> dict[str, Any]:
    return {
        "customer_id": each.customer_id,
        "period": each.period,
        "class": each.finding.drift_class.value,
        "cents": each.finding.cents,
        "stripe_invoice_id": each.finding.stripe_invoice_id,
        "detail": each.finding.detail,
        "remedy": each.finding.remedy.value,
        "repaired": repaired,
    }


def _dollars(cents: int) -> str:
    return dollars(Decimal(cents))
