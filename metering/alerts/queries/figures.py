"""Figures: what is compared with the thresholds of alerts, as a query whose rows all have the same columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from metering.alerts.windows import Window, day_windows
from metering.streams.settlement import NEEDS_PERSON


@dataclass(frozen=True, slots=True)
class Figures:
    """A query for figures, its parameters, and the windows that it knows, by (time zone, key).

    A row is of a customer, or with an empty id of the deployment, and of a window. Its columns are those of
    `FIGURE_COLUMNS`; what its kind of alert does not look at is 0 or NULL. `complete` says of a day that it is
    over; `trailing_days` is how many days before it `before_usd_cents` sums.
    """

    query: str
    parameters: Mapping[str, Any]
    windows: Mapping[tuple[str, str], Window]


FIGURE_COLUMNS: Mapping[str, str] = {
    "customer_id": "text",
    "alert_window": "text",
    "time_zone": "text",
    "complete": "boolean",
    "trailing_days": "integer",
    "usd_cents": "numeric",
    "before_usd_cents": "numeric",
    "estimated_usd_cents": "numeric",
    "count": "bigint",
    "since": "timestamptz",
    "reconciliation_id": "text",
}


_ZONE = "UTC"
# A reconciliation counts as the last one for so long; what was told of it is kept for longer.
_RECONCILIATION_COUNTS = timedelta(days=31)

# By customer and for all together, which is the row with an empty id.
_WHOSE = "CASE WHEN grouping({customer}) = 1 THEN '' ELSE {customer} END AS customer_id"
_NO_AMOUNTS = "false AS complete, 0 AS trailing_days"

_LAST_RECONCILIATION = text(
    """
    SELECT reconciliation_id, started_at, finished_at FROM reconciliations
    WHERE finished_at > :after ORDER BY finished_at DESC, reconciliation_id DESC LIMIT 1
    """
)
# Cents too much and cents too little do not make up for each other.
_DRIFT = f"""
    SELECT {_WHOSE.format(customer="d.customer_id")}, CAST(:reconciliation_id AS text) AS alert_window,
           '{_ZONE}' AS time_zone, {_NO_AMOUNTS}, CAST(sum(abs(d.drift_cents)) AS numeric) AS usd_cents,
           0::numeric AS before_usd_cents, 0::numeric AS estimated_usd_cents, count(*) AS count,
           CAST(NULL AS timestamptz) AS since, CAST(:reconciliation_id AS text) AS reconciliation_id
    FROM drift_findings d WHERE d.reconciliation_id = :reconciliation_id AND d.repaired_at IS NULL
    GROUP BY GROUPING SETS ((d.customer_id), ())
    HAVING count(*) > 0 AND (grouping(d.customer_id) = 1 OR d.customer_id IS NOT NULL)
"""


def open_drift(connection: Connection, *, now: datetime) -> Figures | None:
    """What the last reconciliation found and did not repair, in a window of its own; None when there was none."""
    last = connection.execute(_LAST_RECONCILIATION, {"after": now - _RECONCILIATION_COUNTS}).first()
    if last is None:
        return None
    window = Window(key=last.reconciliation_id, starts_at=last.started_at, ends_at=last.finished_at)
    parameters = {"reconciliation_id": last.reconciliation_id}
    return Figures(_DRIFT, parameters, {(_ZONE, window.key): window})


_BACKLOG = f"""
    SELECT {_WHOSE.format(customer="s.customer_id")}, CAST(:today AS text) AS alert_window,
           '{_ZONE}' AS time_zone, {_NO_AMOUNTS}, 0::numeric AS usd_cents, 0::numeric AS before_usd_cents,
           0::numeric AS estimated_usd_cents, count(*) AS count, min(s.first_received_at) AS since,
           CAST(NULL AS text) AS reconciliation_id
    FROM streams s WHERE s.state IN ({", ".join(f"'{state.value}'" for state in NEEDS_PERSON)})
    GROUP BY GROUPING SETS ((s.customer_id), ()) HAVING count(*) > 0
"""


def oldest_backlog(*, now: datetime) -> Figures:
    """How many streams need a person and since when the oldest waits, in a window of a day in UTC."""
    today = day_windows(now=now, time_zone=ZoneInfo(_ZONE))[-1].window
    return Figures(_BACKLOG, {"today": today.key}, {(_ZONE, today.key): today})
