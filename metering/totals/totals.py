"""Totals: final amounts from the sums by month, day and hour, and accrued ones from open streams, in one query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from metering.domain.usage import COUNTERS
from metering.records.rollups import DAILY, DIMENSIONS, HOURLY, MONTHLY, RETRY, SUMS, narrowest
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
    RETRY = "retry"


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
    retry: str
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
    group: dict[str, str | bool | None]
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
    """Sums of whole months, of the days and hours beside them, of what sticks out, pending ones and accruals."""
    groups = [group.value for group in question.group_by]
    columns = ", ".join(["hour", *groups])
    sums = ", ".join(SUMS)
    of_customer = "" if question.customer_id is None else "AND customer_id = :customer_id"
    needed = {*groups, *([] if question.customer_id is None else ["customer_id"])}
    rolled_up = [
        f"""
        SELECT {", ".join([f"{rollup.bucket} AS hour", *groups])}, {sums}, {_NOT_ACCRUED} FROM {rollup.table}
        WHERE ({rollup.bucket} >= :{outer}_from AND {rollup.bucket} < :{inner}_from
               OR {rollup.bucket} >= :{inner}_to AND {rollup.bucket} < :{outer}_to) {of_customer}
        """
        for rollup, outer, inner in (
            (HOURLY, "hours", "days"),
            (narrowest(DAILY, dimensions=needed), "days", "months"),
            (narrowest(MONTHLY, dimensions=needed), "months", "nothing"),
        )
    ]
    return f"""
        {" UNION ALL ".join(rolled_up)}
        UNION ALL
        SELECT {columns}, {sums}, 0, 0 FROM totals_pending
        WHERE hour >= :hours_from AND hour < :hours_to {of_customer}
        UNION ALL
        SELECT {columns}, {sums}, 0, 0 FROM ({EDGE_BILLS}) AS edges
        UNION ALL
        SELECT {columns}, 0, {", ".join("0" for _ in COUNTERS)}, 0, usd_cents, 1
        FROM jsonb_to_recordset(CAST(:accruals AS jsonb)) AS accrued (
            hour timestamptz, {", ".join(f"{name} text" for name in DIMENSIONS)}, usd_cents numeric)
    """


def _ranges(question: TotalsQuestion) -> dict[str, datetime]:
    """The whole hours of a range, the whole days among them, the whole months among those, and the edges.

    Each unit is summed from its own table but for the stretch that the next larger unit covers.
    """
    hours = _whole(question.from_, question.to, _hour, timedelta(hours=1))
    if hours is None:  # all within one hour
        hours = (question.to, question.to)
        return {**_named(hours, hours, hours), **_edges(question, hours)}
    days = months = None
    if question.granularity is not Granularity.HOUR:
        days = _whole(*hours, _day, timedelta(days=1))
    if days is not None and question.granularity is not Granularity.DAY:
        months = _whole(*days, _month, timedelta(days=31))
    days = days or (hours[1], hours[1])
    months = months or (days[1], days[1])
    return {**_named(hours, days, months), **_edges(question, hours)}


Range = tuple[datetime, datetime]


def _whole(
    from_: datetime, to: datetime, floor: Callable[[datetime], datetime], longest: timedelta
) -> Range | None:
    """The whole units between two moments; `floor` finds the beginning of a unit, none is `longest` or longer."""
    begin = floor(from_)
    if begin < from_:
        begin = floor(begin + longest)
    end = floor(to)
    return (begin, end) if begin <= end else None


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _day(moment: datetime) -> datetime:
    return _hour(moment).replace(hour=0)


def _month(moment: datetime) -> datetime:
    return _day(moment).replace(day=1)


def _named(hours: Range, days: Range, months: Range) -> dict[str, datetime]:
    named = {"hours": hours, "days": days, "months": months, "nothing": (months[1], months[1])}
    begins = {f"{unit}_from": begin for unit, (begin, _) in named.items()}
    ends = {f"{unit}_to": end for unit, (_, end) in named.items()}
    return begins | ends


def _edges(question: TotalsQuestion, hours: Range) -> dict[str, datetime]:
    return {"head": question.from_, "head_end": hours[0], "tail": hours[1], "tail_end": question.to}


def _row(row: Any, question: TotalsQuestion, names: Sequence[str]) -> TotalRow:
    position = tuple(getattr(row, name) for name in names)
    # Only what may be unknown is stored as "": the API key of a stream, the outcome of an open one.
    group: dict[str, str | bool | None] = {
        key.value: value == RETRY if key is Group.RETRY else value or None
        for key, value in zip(question.group_by, position[1:], strict=True)
    }
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
