"""`metering reconcile`: compare our invoices with Stripe's, and repair differences."""

import sys
from typing import Annotated, Any

import typer

from metering.cli.asking_stripe import stripe_patience, tell_what_is_done
from metering.cli.shared import (
    AsJson,
    operator,
    phases,
    say,
    show,
    show_one,
)
from metering.core.period import BillingPeriod
from metering.server.bootstrap import build_service
from metering.server.outgoing import build_pusher
from metering.server.settings import load_settings
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
    service = build_service(load_settings(), pool_size=10)
    settings = service.settings
    left = "the comparison is not done, repairs made so far are kept; run the command again"
    with tell_what_is_done(lambda: left), phases() as progress:
        report = reconcile(
            pusher=build_pusher(service, patience=stripe_patience()),
            period=BillingPeriod.parse(period) if period else None,
            repair=repair,
            caps=Caps(cents=settings.repair_cap_cents, share=settings.repair_cap_share),
            requested_by=operator(),
            progress=progress,
        )
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
        show(rows, as_json=False, empty="no drift")
        print(
            f"{report.compared:,} invoices compared: {_dollars(report.ours_cents)} ours,"
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
    return f"{'-' if cents < 0 else ''}${abs(cents) // 100:,}.{abs(cents) % 100:02d}"
