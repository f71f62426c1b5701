"""Totals: final amounts from the hourly sums and accrued ones from open streams, grouped in one query."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from metering.domain.usage import COUNTERS
from metering.totals.edges import EDGE_BILLS


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
    """What one stream that is not final would cost if it ended now. `outcome` is None while it is open."""

    customer_id: str
    hour: datetime
    provider: str
    model: str
    api_key_id: str | None
    outcome: str | None
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


_DIMENSIONS = ("customer_id", "provider", "model", "api_key_id", "outcome", "usage_source")


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
        **_ranges(question.from_, question.to),
        "customer_id": question.customer_id,
        "limit": question.limit,
        **_accrual_arrays(accruals),
    }
    after = ""
    if question.after is not None:
        after = f"WHERE ({', '.join(names)}) > ({', '.join(f':after_{name}' for name in names)})"
        parameters |= {f"after_{name}": value for name, value in zip(names, question.after, strict=True)}
    query = f"""
        SELECT * FROM (
            SELECT {", ".join(f"{key} AS {name}" for key, name in zip(keys, names, strict=True))},
                   {", ".join(f"sum({measure}) AS {measure}" for measure in _MEASURES)}
            FROM ({_ALL_ROWS}) AS both_kinds
            GROUP BY {", ".join(names)}
            HAVING sum(stream_count) <> 0 OR sum(usd_cents) <> 0 OR sum(accruing_stream_count) <> 0
        ) AS grouped {after}
        ORDER BY {", ".join(names)} LIMIT :limit
    """
    return [_row(row, question, names) for row in connection.execute(text(query), parameters)]


_MEASURES = ("stream_count", *COUNTERS, "usd_cents", "accrued_usd_cents", "accruing_stream_count")

_ACCRUED_DIMENSIONS = ", ".join(f"CAST(:accrued_{name} AS text[])" for name in _DIMENSIONS)
_ALL_ROWS = f"""
    SELECT hour, {", ".join(_DIMENSIONS)}, stream_count, {", ".join(COUNTERS)}, usd_cents,
           0::numeric AS accrued_usd_cents, 0 AS accruing_stream_count
    FROM totals_hourly
    WHERE hour >= :first_hour AND hour < :last_hour
      AND (CAST(:customer_id AS text) IS NULL OR customer_id = :customer_id)
    UNION ALL
    SELECT hour, {", ".join(_DIMENSIONS)}, 1, {", ".join(COUNTERS)}, usd_cents, 0, 0 FROM ({EDGE_BILLS}) AS edges
    UNION ALL
    SELECT hour, {", ".join(_DIMENSIONS)}, 0, {", ".join("0" for _ in COUNTERS)}, 0, usd_cents, 1
    FROM unnest(CAST(:accrued_hour AS timestamptz[]), {_ACCRUED_DIMENSIONS},
                CAST(:accrued_usd_cents AS numeric[])) AS accrued (hour, {", ".join(_DIMENSIONS)}, usd_cents)
"""


def _ranges(from_: datetime, to: datetime) -> dict[str, datetime]:
    """The full hours of a range, and what sticks out of them at either end."""
    last_hour = to.replace(minute=0, second=0, microsecond=0)
    first_hour = from_.replace(minute=0, second=0, microsecond=0)
    if first_hour < from_:
        first_hour += timedelta(hours=1)
    if first_hour > last_hour:  # all within one hour
        return {"first_hour": to, "last_hour": to, "head": from_, "head_end": to, "tail": to, "tail_end": to}
    return {
        "first_hour": first_hour,
        "last_hour": last_hour,
        "head": from_,
        "head_end": first_hour,
        "tail": last_hour,
        "tail_end": to,
    }


def _accrual_arrays(accruals: Sequence[Accrual]) -> dict[str, list[Any]]:
    arrays = {f"accrued_{name}": [getattr(accrual, name) or "" for accrual in accruals] for name in _DIMENSIONS}
    return {
        **arrays,
        "accrued_hour": [accrual.hour for accrual in accruals],
        "accrued_usd_cents": [accrual.usd_cents for accrual in accruals],
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
