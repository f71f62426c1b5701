"""The tasks: thin. Each finds its work in the database, so that losing or doubling its message is harmless."""

import logging

from metering.core.clock import utc_now
from metering.db.schema import drop_journal_partitions, ensure_journal_partitions
from metering.streams.ingest.nudge import FINALIZE_TASK
from workers.alerts import evaluate_due_alerts, send_due_webhooks
from workers.app import app, service
from workers.finalizing import drain
from workers.months import begin_last_month, reconcile_if_due
from workers.schedule import ALERTS_TASK, MONTH_TASK, PARTITIONS_TASK, RECONCILE_TASK

log = logging.getLogger(__name__)


@app.task(name=FINALIZE_TASK)  # type: ignore[untyped-decorator]
def finalize_due_streams() -> None:
    """Finalize what is due."""
    drain(service)


@app.task(name=MONTH_TASK)  # type: ignore[untyped-decorator]
def close_last_month() -> None:
    """Close the last month for everybody for whom it is over, and push its invoices."""
    begin_last_month(service)


@app.task(name=RECONCILE_TASK)  # type: ignore[untyped-decorator]
def reconcile_with_stripe() -> None:
    """Compare the newest invoiced month with Stripe, if that is due."""
    reconcile_if_due(service)


@app.task(name=ALERTS_TASK)  # type: ignore[untyped-decorator]
def evaluate_alerts() -> None:
    """Evaluate alerts, and send what webhooks are due."""
    evaluate_due_alerts(service)
    send_due_webhooks(service)


@app.task(name=PARTITIONS_TASK)  # type: ignore[untyped-decorator]
def keep_partitions() -> None:
    """Make the journal's next partitions before they are needed; drop those that are past their retention."""
    ensure_journal_partitions(service().engine, now=utc_now())
    retention = service().settings.journal_retention
    if retention is not None and (dropped := drop_journal_partitions(service().engine, retention=retention)):
        log.info("journal partitions dropped", extra={"partitions": dropped, "retention": str(retention)})
