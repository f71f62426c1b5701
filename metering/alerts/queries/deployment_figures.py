"""What all customers together have come to, by months and days in UTC: the same figures as of a customer."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from metering.alerts.alerts import DEPLOYMENT
from metering.alerts.queries.customer_figures import ABANDONED, ESTIMATE
from metering.alerts.queries.figures import FIGURE_COLUMNS, Figures
from metering.alerts.windows import Window, day_windows, month_windows
from metering.core.money import sum_cents
from metering.totals.queries.totals import Group, TotalRow, TotalsQuestion, read_totals
from metering.totals.ranges import Granularity

_encode = msgspec.json.Encoder().encode

_ZONE = "UTC"
_UTC = ZoneInfo(_ZONE)
# More groups than there are: outcomes x sources, or days.
_ALL = 1_000


def deployment_months(connection: Connection, *, now: datetime) -> Figures:
    """Of months."""
    windows = [window for _, window in month_windows(now=now, time_zone=_UTC)]
    rows = []
    for window in windows:
        totals = _totals(
            connection, window.starts_at, window.ends_at, Granularity.NONE, (Group.OUTCOME, Group.USAGE_SOURCE)
        )
        estimated = [each for each in totals if {ESTIMATE, ABANDONED} & set(each.group.values())]
        rows.append(_row(window, usd_cents=_sum(totals), estimated_usd_cents=_sum(estimated)))
    return _given(rows, windows)


def deployment_days(connection: Connection, *, now: datetime, trailing: Collection[int]) -> Figures:
    """Of days, once for each number of days before them."""
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
    question = TotalsQuestion(from_=from_, to=to, granularity=granularity, group_by=group_by, limit=_ALL)
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


_GIVEN = f"""
    SELECT * FROM json_to_recordset(CAST(:deployment AS json))
        AS given ({", ".join(f"{name} {kind}" for name, kind in FIGURE_COLUMNS.items())})
"""


def _given(rows: Sequence[dict[str, Any]], windows: Iterable[Window]) -> Figures:
    by_key = {(_ZONE, window.key): window for window in windows}
    return Figures(_GIVEN, {"deployment": _encode(rows).decode()}, by_key)
