"""Reconcile on schedule: compare the newest invoiced month with Stripe again and again; nothing is repaired."""

import logging
from datetime import timedelta

from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.months.queries.month_progress import pushes_under_way
from metering.stripe.push_due import Pusher
from metering.stripe.queries.reconciliations import last_reconciled, newest_billed
from metering.stripe.reconcile import Reconciliation, reconcile
from metering.stripe.repair_drift import NO_REPAIRS

log = logging.getLogger(__name__)


def reconcile_newest_month(*, pusher: Pusher, every: timedelta) -> Reconciliation | None:
    """Compare, unless that was done within `every`, or pushes are still under way; None when it did not.

    Raises:
        StripeError: Stripe could not be read.
    """
    with transaction(pusher.engine) as connection:
        period = newest_billed(connection)
        if period is None or pushes_under_way(connection, period=period, only=None).count:
            return None
        last = last_reconciled(connection, period=period)
    if last is not None and pusher.clock() - last < every:
        return None
    report = reconcile(
        pusher=pusher,
        period=BillingPeriod.parse(period),
        repair=False,
        caps=NO_REPAIRS,
        requested_by="the schedule",
    )
    told = {"period": period, "compared": report.compared, "findings": len(report.left)}
    if report.left:
        log.error("Stripe has something else than we do: see `metering reconcile`", extra=told)
    else:
        log.info("Stripe has what we have", extra=told)
    return report
