"""Figures: what alerts compare with their thresholds, as queries whose rows all have the same columns.

Here are the figures of the deployment, of drift, of the backlog, of contradictory usage and of new prices;
`customer_figures.py` has those of customers. Those of budgets and balances, in `budget_figures.py`, have columns
of their own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from metering.alerts.alerts import DEPLOYMENT
from metering.alerts.windows import Window, day_windows, month_windows
from metering.core.money import sum_cents
from metering.db.rows import json_rows
from metering.events.events import Outcome, UsageSource
from metering.streams.bill import Flag
from metering.streams.settlement import NEEDS_PERSON
from metering.totals.queries.question import Group, TotalRow, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity


@dataclass(frozen=True, slots=True)
class Figures:
    """A query for figures, its parameters, and its windows by (time zone, key).

    A row is for one window of a customer, or of the deployment when `customer_id` is empty. Its columns are those
    of `_GIVEN` below; columns that a kind of alert does not use are 0 or NULL. `complete` says whether a day has
    ended; `before_usd_cents` is the sum of the `trailing_days` before the window.
    """

    query: str
    parameters: Mapping[str, Any]
    windows: Mapping[tuple[str, str], Window]


# Amounts count as estimated when the usage was estimated or the stream was abandoned.
ESTIMATE, ABANDONED = UsageSource.ESTIMATE.value, Outcome.ABANDONED.value

_ZONE = "UTC"
_UTC = ZoneInfo(_ZONE)
# More than the possible groups: outcomes x sources, or days.
_ALL = 1_000
_GIVEN = """
    SELECT * FROM json_to_recordset(CAST(:deployment AS json)) AS given (
        customer_id text, alert_window text, time_zone text, complete boolean, trailing_days integer,
        usd_cents numeric, before_usd_cents numeric, estimated_usd_cents numeric, count bigint, since timestamptz,
        reconciliation_id text)
"""


def deployment_months(connection: Connection, *, now: datetime) -> Figures:
    """The amounts of all customers together, by UTC month."""
    windows = [window for _, window in month_windows(now=now, time_zone=_UTC)]
    rows = []
    for window in windows:
        groups = (Group.OUTCOME, Group.USAGE_SOURCE)
        totals = _totals(connection, window.starts_at, window.ends_at, Granularity.NONE, groups)
        estimated = [each for each in totals if {ESTIMATE, ABANDONED} & set(each.group.values())]
        rows.append(_row(window, usd_cents=_sum(totals), estimated_usd_cents=_sum(estimated)))
    return _given(rows, windows)


def deployment_days(connection: Connection, *, now: datetime, trailing: Collection[int]) -> Figures:
    """The amounts of all customers together, by UTC day; each day once per number of trailing days."""
    days = day_windows(now=now, time_zone=_UTC)
    begin, end = days[0].midnight_before(max(trailing)), days[-1].window.ends_at
    totals = _totals(connection, begin, end, Granularity.DAY, ())
    rows = [
        _row(
            day.window,
            complete=day.complete,
            trailing_days=trailing_days,
            usd_cents=_sum_within(totals, day.window.starts_at, day.window.ends_at),
            before_usd_cents=_sum_within(totals, day.midnight_before(trailing_days), day.window.starts_at),
        )
        for day in days
        for trailing_days in trailing
    ]
    return _given(rows, [day.window for day in days])


def _totals(
    connection: Connection, from_: datetime, to: datetime, granularity: Granularity, group_by: Sequence[Group]
) -> Sequence[TotalRow]:
    question = TotalsQuestion(
        from_=from_, to=to, granularity=granularity, group_by=group_by, limit=_ALL, counters=False
    )
    return read_totals(connection, question=question)


def _sum(totals: Iterable[TotalRow]) -> Decimal:
    return sum_cents(each.usd_cents for each in totals)


def _sum_within(totals: Iterable[TotalRow], from_: datetime, to: datetime) -> Decimal:
    return _sum(each for each in totals if each.start is not None and from_ <= each.start < to)


def _row(window: Window, **amounts: Any) -> dict[str, Any]:
    return {
        "customer_id": DEPLOYMENT,
        "alert_window": window.key,
        "time_zone": _ZONE,
        "complete": False,
        "trailing_days": 0,
        "usd_cents": 0,
        "before_usd_cents": 0,
        "estimated_usd_cents": 0,
        "count": 0,
        **amounts,
    }


def _given(rows: Sequence[dict[str, Any]], windows: Iterable[Window]) -> Figures:
    by_key = {(_ZONE, window.key): window for window in windows}
    return Figures(_GIVEN, {"deployment": json_rows(rows)}, by_key)


# A reconciliation counts as the last one for this long; its occurrences are kept for longer.
_RECONCILIATION_COUNTS_FOR = timedelta(days=31)
_LAST_RECONCILIATION = text(
    """
    SELECT reconciliation_id, started_at, finished_at FROM reconciliations
    WHERE finished_at > :after ORDER BY finished_at DESC, reconciliation_id DESC LIMIT 1
    """
)
# By customer, and with an empty id for the deployment. Cents too many and cents too few do not cancel out.
_DRIFT = """
    SELECT CASE WHEN grouping(d.customer_id) = 1 THEN '' ELSE d.customer_id END AS customer_id,
           CAST(:reconciliation_id AS text) AS alert_window, 'UTC' AS time_zone, false AS complete,
           0 AS trailing_days, CAST(sum(abs(d.drift_cents)) AS numeric) AS usd_cents,
           0::numeric AS before_usd_cents, 0::numeric AS estimated_usd_cents, count(*) AS count,
           CAST(NULL AS timestamptz) AS since, CAST(:reconciliation_id AS text) AS reconciliation_id
    FROM drift_findings d WHERE d.reconciliation_id = :reconciliation_id AND d.repaired_at IS NULL
    GROUP BY GROUPING SETS ((d.customer_id), ())
    HAVING count(*) > 0 AND (grouping(d.customer_id) = 1 OR d.customer_id IS NOT NULL)
"""


def open_drift(connection: Connection, *, now: datetime) -> Figures | None:
    """The drift that the last reconciliation left unrepaired, in a window of its own; None without one."""
    last = connection.execute(_LAST_RECONCILIATION, {"after": now - _RECONCILIATION_COUNTS_FOR}).first()
    if last is None:
        return None
    window = Window(key=last.reconciliation_id, starts_at=last.started_at, ends_at=last.finished_at)
    parameters = {"reconciliation_id": last.reconciliation_id}
    return Figures(_DRIFT, parameters, {(_ZONE, window.key): window})


_BACKLOG = """
    WITH waiting AS MATERIALIZED (
        SELECT customer_id, count(*) AS streams, min(first_received_at) AS since
        FROM streams WHERE state = ANY(CAST(:states AS text[])) GROUP BY 1)
    SELECT CASE WHEN grouping(s.customer_id) = 1 THEN '' ELSE s.customer_id END AS customer_id,
           CAST(:today AS text) AS alert_window, 'UTC' AS time_zone, false AS complete, 0 AS trailing_days,
           0::numeric AS usd_cents, 0::numeric AS before_usd_cents, 0::numeric AS estimated_usd_cents,
           CAST(sum(s.streams) AS bigint) AS count, min(s.since) AS since,
           CAST(NULL AS text) AS reconciliation_id
    FROM waiting s GROUP BY GROUPING SETS ((s.customer_id), ()) HAVING count(*) > 0
"""


def oldest_backlog(*, now: datetime) -> Figures:
    """The number of streams that need attention, and since when the oldest waits, in a window of a UTC day."""
    today = day_windows(now=now, time_zone=_UTC)[-1].window
    parameters = {"today": today.key, "states": [state.value for state in NEEDS_PERSON]}
    return Figures(_BACKLOG, parameters, {(_ZONE, today.key): today})


# By the day of booking: the day on which the mistake is known, however old the streams are.
_INCONSISTENT = """
    WITH days AS (
        SELECT * FROM json_to_recordset(CAST(:days AS json)) AS d (
            alert_window text, from_ timestamptz, to_ timestamptz)),
    flagged AS MATERIALIZED (
        SELECT c.customer_id, c.stream_id, c.ended_at, d.alert_window FROM days d JOIN charges c
            ON c.flags <> '{}' AND c.flags @> :flags AND c.booked_at >= d.from_ AND c.booked_at < d.to_
        UNION ALL
        SELECT a.customer_id, a.stream_id, a.ended_at, d.alert_window FROM days d JOIN adjustments a
            ON a.flags <> '{}' AND a.flags @> :flags AND a.booked_at >= d.from_ AND a.booked_at < d.to_)
    SELECT CASE WHEN grouping(customer_id) = 1 THEN '' ELSE customer_id END AS customer_id, alert_window,
           'UTC' AS time_zone, false AS complete, 0 AS trailing_days, 0::numeric AS usd_cents,
           0::numeric AS before_usd_cents, 0::numeric AS estimated_usd_cents,
           count(DISTINCT (customer_id, stream_id)) AS count, min(ended_at) AS since,
           CAST(NULL AS text) AS reconciliation_id
    FROM flagged GROUP BY GROUPING SETS ((alert_window, customer_id), (alert_window))
"""


def inconsistent_usage(*, now: datetime) -> Figures:
    """How many streams were booked with contradictory counters, by UTC day, and when the first of them ended."""
    windows = [day.window for day in day_windows(now=now, time_zone=_UTC)]
    days = [{"alert_window": each.key, "from_": each.starts_at, "to_": each.ends_at} for each in windows]
    parameters = {"days": json_rows(days), "flags": [Flag.INCONSISTENT_USAGE.value]}
    return Figures(_INCONSISTENT, parameters, {(_ZONE, each.key): each for each in windows})


# A batch of price changes counts for this long; its occurrences are kept for longer.
_CHANGES_COUNT_FOR = timedelta(days=31)
_LAST_BATCH = text(
    """
    SELECT batch, found_at, compared_at FROM rate_comparisons
    WHERE found_at > :after AND EXISTS (SELECT FROM price_changes)
    """
)
# `before_usd_cents` is what last month's usage cost, `estimated_usd_cents` what it would have cost. Customers who
# would pay more and customers who would pay less do not cancel out.
_PRICE_CHANGES = """
    WITH of_customers AS MATERIALIZED (
        SELECT customer_id, count(*) AS changes, sum(usd_cents) AS cost, sum(would_cost_usd_cents) AS would_cost
        FROM price_change_costs GROUP BY customer_id),
    amounts AS (
        SELECT customer_id, abs(would_cost - cost) AS usd_cents, cost, would_cost, changes FROM of_customers
        UNION ALL
        SELECT '', coalesce(sum(abs(would_cost - cost)), 0), coalesce(sum(cost), 0), coalesce(sum(would_cost), 0),
               (SELECT count(*) FROM price_changes)
        FROM of_customers)
    SELECT customer_id, CAST(:batch AS text) AS alert_window, 'UTC' AS time_zone, false AS complete,
           0 AS trailing_days, usd_cents, cost AS before_usd_cents, would_cost AS estimated_usd_cents,
           CAST(changes AS bigint) AS count, CAST(:found_at AS timestamptz) AS since,
           CAST(NULL AS text) AS reconciliation_id
    FROM amounts
"""


def price_changes(connection: Connection, *, now: datetime) -> Figures | None:
    """What last month would have cost by the catalogue's new prices, in a window of its own; None without any."""
    last = connection.execute(_LAST_BATCH, {"after": now - _CHANGES_COUNT_FOR}).first()
    if last is None:
        return None
    window = Window(key=last.batch, starts_at=last.found_at, ends_at=last.compared_at)
    parameters = {"batch": last.batch, "found_at": last.found_at}
    return Figures(_PRICE_CHANGES, parameters, {(_ZONE, window.key): window})
