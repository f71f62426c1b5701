"""What beat sends, and how often. Two beats, or no beat for a minute, only change how soon work is done."""

from typing import Any

from metering.streams.ingest.nudge import FINALIZE_TASK

PARTITIONS_TASK = "metering.keep_journal_partitions"
MONTH_TASK = "metering.close_last_month"
RECONCILE_TASK = "metering.reconcile_newest_month"
RATES_TASK = "metering.compare_rates"
ALERTS_TASK = "metering.evaluate_alerts"

SCHEDULE: dict[str, dict[str, Any]] = {
    "finalize due streams": {"task": FINALIZE_TASK, "schedule": 1.0, "options": {"expires": 5}},
    # Hourly, because months end at different times by time zone. Mostly there is nothing to close.
    "close last month": {"task": MONTH_TASK, "schedule": 3600.0, "options": {"expires": 600}},
    # Checked hourly; METERING_RECONCILE_EVERY sets how often it is done.
    "reconcile newest month": {"task": RECONCILE_TASK, "schedule": 3600.0, "options": {"expires": 600}},
    # Checked hourly; METERING_COMPARE_RATES_EVERY sets how often it is done.
    "compare rates": {"task": RATES_TASK, "schedule": 3600.0, "options": {"expires": 600}},
    # METERING_ALERTS_EVERY sets how often each kind is evaluated; due webhooks are sent as well.
    "evaluate alerts": {"task": ALERTS_TASK, "schedule": 60.0, "options": {"expires": 60}},
    "keep journal partitions": {"task": PARTITIONS_TASK, "schedule": 3600.0, "options": {"expires": 600}},
}
