"""The tasks. Each finds its work in the database, so a lost or duplicate message is harmless."""

import logging

from metering.core.clock import utc_now
from metering.db.schema import RetentionRefusedError, drop_journal_partitions, ensure_journal_partitions
from metering.streams.ingest.nudge import FINALIZE_TASK
from workers.app import app, worker
from workers.schedule import ALERTS_TASK, MONTH_TASK, PARTITIONS_TASK, RATES_TASK, RECONCILE_TASK

log = logging.getLogger(__name__)


@app.task(name=FINALIZE_TASK)  # type: ignore[untyped-decorator]
def finalize_due_streams() -> None:
    """Finalize due streams."""
    worker.finalizing.drain()


@app.task(name=MONTH_TASK)  # type: ignore[untyped-decorator]
def close_last_month() -> None:
    """Close the last month for all customers whose grace is over, and push its invoices."""
    worker.months.begin_last_month()
    worker.months.add_missing_rates()


@app.task(name=RECONCILE_TASK)  # type: ignore[untyped-decorator]
def reconcile_with_stripe() -> None:
    """Compare the newest invoiced month with Stripe, if that is due."""
    worker.months.reconcile_if_due()


@app.task(name=RATES_TASK)  # type: ignore[untyped-decorator]
def compare_rates_with_the_catalogue() -> None:
    """Compare the installed catalogue with the stored rates, if that is due."""
    worker.rates.compare_if_due()


@app.task(name=ALERTS_TASK)  # type: ignore[untyped-decorator]
def evaluate_alerts() -> None:
    """Evaluate alerts, and send the webhooks that are due."""
    worker.alerts.evaluate_due()
    worker.alerts.send_due()


@app.task(name=PARTITIONS_TASK)  # type: ignore[untyped-decorator]
def keep_partitions() -> None:
    """Create the journal's next partitions before they are needed; drop those past their retention."""
    service = worker.service()
    ensure_journal_partitions(service.engine, now=utc_now())
    retention = service.settings.journal_retention
    if retention is None:
        return
    try:
        if dropped := drop_journal_partitions(service.engine, retention=retention):
            log.info("journal partitions dropped", extra={"partitions": dropped, "retention": str(retention)})
    except RetentionRefusedError as error:
        log.error("journal partitions not dropped", extra={"error": str(error)})
