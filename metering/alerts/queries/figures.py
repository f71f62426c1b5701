"""Figures: what is compared with the thresholds of alerts, as a query whose rows all have the same columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metering.alerts.windows import Window


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
