"""Totals: final amounts from the sums by day and hour, accrued ones from open streams, grouped in one query."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from metering.domain.usage import COUNTERS
from metering.records.rollups import DAILY, DIMENSIONS, HOURLY, SUMS
from metering.totals.edges import EDGE_BILLS

_encode = msgspec.json.Encoder().encode


class Granularity(StrEnum):
    """The length of a row's time bucket, in UTC; NONE has one bucket for the whole range."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    NONE = "none"


class Group(StrEnum):
    """What totals can be grouped by."""

    CUSTOMER_ID = "customer_id"
    PROVIDER = "provider"
    MODEL = "model"
    API_KEY_ID = "api_key_id"
    OUTCOME = "outcome"
    USAGE_SOURCE = "usage_source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrual:
    """What one stream that is not final would cost if it ended now. What is not known of it is empty."""

    customer_id: str
    hour: datetime
    provider: str
    model: str
    api_key_id: str
    outcome: str
    usage_source: str
    usd_cents: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsQuestion:
    """`from_` and `to` are half-open; `after` is the position of the last row of the page before."""

    from_: datetime
    to: datetime
    granularity: Granularity
    group_by: Sequence[Group]
    customer_id: str | None
    after: Sequence[str] | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalRow:
    """One group's totals: counts and `usd_cents` are of final streams, `accrued_usd_cents` of the others."""

    start: datetime | None
    group: dict[str, str | None]
    stream_count: int
    counters: dict[str, int]
    usd_cents: Decimal
    accrued_usd_cents: Decimal
    accruing_stream_count: int
    position: tuple[str, ...]


_MEASURES = (*SUMS, "accrued_usd_cents", "accruing_stream_count")
_NOT_ACCRUED = "0::numeric AS accrued_usd_cents, 0 AS accruing_stream_count"


def read_totals(
    connection: Connection, *, question: TotalsQuestion, accruals: Sequence[Accrual]
) -> Sequence[TotalRow]:
    """Up to `limit` rows in the order of (start, groups...)."""
    bucket = (
        "''"
        if question.granularity is Granularity.NONE
        else f"to_char(date_trunc('{question.granularity.value}', hour), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    )
    keys = [bucket, *(group.value for group in question.group_by)]
    names = [f"k{place}" for place in range(len(keys))]
    parameters: dict[str, Any] = {
        **_ranges(question),
        "customer_id": question.customer_id,
        "limit": question.limit,
        "accruals": _encode(accruals).decode(),
    }
    after = ""
    if question.after is not None:
        after = f"WHERE ({', '.join(names)}) > ({', '.join(f':after_{name}' for name in names)})"
        parameters |= {f"after_{name}": value for name, value in zip(names, question.after, strict=True)}
    query = f"""
        SELECT * FROM (
            SELECT {", ".join(f"{key} AS {name}" for key, name in zip(keys, names, strict=True))},
                   {", ".join(f"sum({measure}) AS {measure}" for measure in _MEASURES)}
            FROM ({_all_rows(question)}) AS all_kinds
            GROUP BY {", ".join(names)}
            HAVING sum(stream_count) <> 0 OR sum(usd_cents) <> 0 OR sum(accruing_stream_count) <> 0
        ) AS grouped {after}
        ORDER BY {", ".join(names)} LIMIT :limit
    """
    return [_row(row, question, names) for row in connection.execute(text(query), parameters)]


def _all_rows(question: TotalsQuestion) -> str:
    """Sums of whole days, of the hours beside them, of what sticks out of those, pending ones and accruals."""
    groups = [group.value for group in question.group_by]
    columns = ", ".join(["hour", *groups])
    sums = ", ".join(SUMS)
    of_customer = "" if question.customer_id is None else "AND customer_id = :customer_id"
    needed = {*groups, *([] if question.customer_id is None else ["customer_id"])}
    daily = next(rollup for rollup in DAILY if needed <= set(rollup.dimensions))
    return f"""
        SELECT {", ".join(["day AS hour", *groups])}, {sums}, {_NOT_ACCRUED} FROM {daily.table}
        WHERE day >= :first_day AND day < :last_day {of_customer}
        UNION ALL
        SELECT {columns}, {sums}, 0, 0 FROM {HOURLY.table}
        WHERE (hour >= :first_hour AND hour < :first_day OR hour >= :last_day AND hour < :last_hour) {of_customer}
        UNION ALL
        SELECT {columns}, {sums}, 0, 0 FROM totals_pending
        WHERE hour >= :first_hour AND hour < :last_hour {of_customer}
        UNION ALL
        SELECT {columns}, 1, {", ".join(COUNTERS)}, usd_cents, 0, 0 FROM ({EDGE_BILLS}) AS edges
        UNION ALL
        SELECT {columns}, 0, {", ".join("0" for _ in COUNTERS)}, 0, usd_cents, 1
        FROM jsonb_to_recordset(CAST(:accruals AS jsonb)) AS accrued (
            hour timestamptz, {", ".join(f"{name} text" for name in DIMENSIONS)}, usd_cents numeric)
    """


def _ranges(question: TotalsQuestion) -> dict[str, datetime]:
    """The whole hours of a range, the whole days among them, and what sticks out of the hours at either end."""
    from_, to = question.from_, question.to
    last_hour = to.replace(minute=0, second=0, microsecond=0)
    first_hour = from_.replace(minute=0, second=0, microsecond=0)
    if first_hour < from_:
        first_hour += timedelta(hours=1)
    if first_hour > last_hour:  # all within one hour
        empty = dict.fromkeys(("first_hour", "first_day", "last_day", "last_hour"), to)
        return {**empty, "head": from_, "head_end": to, "tail": to, "tail_end": to}
    last_day = last_hour.replace(hour=0)
    first_day = first_hour.replace(hour=0)
    if first_day < first_hour:
        first_day += timedelta(days=1)
    if first_day > last_day or question.granularity is Granularity.HOUR:  # no whole day, or none that tells
        first_day = last_day = last_hour
    return {
        "first_hour": first_hour,
        "first_day": first_day,
        "last_day": last_day,
        "last_hour": last_hour,
        "head": from_,
        "head_end": first_hour,
        "tail": last_hour,
        "tail_end": to,
    }


def _row(row: Any, question: TotalsQuestion, names: Sequence[str]) -> TotalRow:
    position = tuple(getattr(row, name) for name in names)
    # Only what may be unknown is stored as "": the API key of a stream, the outcome of an open one.
    group = {key.value: value or None for key, value in zip(question.group_by, position[1:], strict=True)}
    return TotalRow(
        start=datetime.fromisoformat(position[0]) if position[0] else None,
        group=group,
        stream_count=int(row.stream_count),
        counters={counter: int(getattr(row, counter)) for counter in COUNTERS},
        usd_cents=row.usd_cents,
        accrued_usd_cents=row.accrued_usd_cents,
        accruing_stream_count=int(row.accruing_stream_count),
        position=position,
    )
