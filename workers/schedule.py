"""What beat sends, and how often. Two beats, or none for a minute, change nothing but freshness."""

from typing import Any

from metering.ingest.nudge import FINALIZE_TASK

PARTITIONS_TASK = "metering.keep_journal_partitions"

SCHEDULE: dict[str, dict[str, Any]] = {
    "finalize due streams": {"task": FINALIZE_TASK, "schedule": 1.0, "options": {"expires": 5}},
    "keep journal partitions": {"task": PARTITIONS_TASK, "schedule": 3600.0, "options": {"expires": 600}},
}
