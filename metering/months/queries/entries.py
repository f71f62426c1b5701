"""The entries of months that are being closed: summed by invoice line, and sealed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Connection

from metering.core.money import EXACT
from metering.events.usage import COUNTERS, Usage
from metering.ledger.entries import ManualKind
from metering.months.invoice import LineKind, LineSum

_encode = msgspec.json.Encoder().encode


class OpenMonth(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's month that is to be closed, and its bounds."""

    customer_id: str
    period: str
    time_zone: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """How many entries a month has, what they sum to, and a hash over each of them."""

    entry_count: int
    usd_cents: Decimal
    digest: bytes


# (customer_id, period).
MonthKey = tuple[str, str]

_MONTHS = """
    json_to_recordset(%(months)s::json)
    AS m (customer_id text, period text, time_zone text, starts_at timestamptz, ends_at timestamptz)
"""
_LATE_MONTH = "CASE WHEN c.ended_at < m.starts_at THEN to_char(c.ended_at AT TIME ZONE m.time_zone, 'YYYY-MM') END"

_CHARGES = f"""
SELECT m.customer_id, m.period, {_LATE_MONTH} AS late_month, c.provider, c.model,
       min(c.ended_at) AS first_end, max(c.ended_at) AS last_end, count(*) AS stream_count,
       {", ".join(f"sum(c.{name}) AS {name}" for name in COUNTERS)}, sum(c.usd_cents) AS usd_cents
FROM {_MONTHS} JOIN charges c ON c.customer_id = m.customer_id AND c.period = m.period
GROUP BY 1, 2, 3, 4, 5
"""

# What a month's adjustments change of its own charges belongs to their lines; the newest one says what was used.
_ADJUSTMENTS = f"""
SELECT customer_id, period, own, month, provider, model, min(ended_at) AS first_end, max(ended_at) AS last_end,
       count(DISTINCT stream_id) AS streams,
       coalesce(sum(CASE WHEN bill IS NULL THEN -1 ELSE 0 END) FILTER (WHERE newest), 0) AS stream_count,
       {
    ", ".join(
        f"coalesce(sum(coalesce(CAST(bill -> 'usage' ->> '{name}' AS numeric), 0) - coalesce({name}, 0))"
        f" FILTER (WHERE newest), 0) AS {name}"
        for name in COUNTERS
    )
}, sum(adjusted) AS usd_cents
FROM (
    SELECT m.customer_id, m.period, c.period = m.period AS own,
           CASE WHEN c.period = m.period THEN {_LATE_MONTH} ELSE c.period END AS month,
           c.provider, c.model, c.ended_at, c.stream_id, {", ".join(f"c.{name}" for name in COUNTERS)},
           a.bill, a.usd_cents AS adjusted,
           row_number() OVER (PARTITION BY a.customer_id, a.period, a.stream_id ORDER BY a.revision DESC) = 1
           AS newest
    FROM {_MONTHS} JOIN adjustments a ON a.customer_id = m.customer_id AND a.period = m.period
    JOIN charges c ON c.customer_id = a.customer_id AND c.stream_id = a.stream_id
) AS adjusted GROUP BY 1, 2, 3, 4, 5, 6
"""

_MANUAL = f"""
SELECT m.customer_id, m.period, a.adjustment_id, a.kind, a.reason, a.usd_cents, a.booked_at
FROM {_MONTHS} JOIN manual_adjustments a ON a.customer_id = m.customer_id AND a.period = m.period
"""

# Two levels, so that no month is too long for one text: the entries of each day (`id amount`, sorted, a line each)
# are hashed, and then the days (`day hash`, a line each).
_SEALS = f"""
WITH entries AS (
    SELECT m.customer_id, m.period, c.ended_at AS at, c.charge_id AS id, c.usd_cents
    FROM {_MONTHS} JOIN charges c ON c.customer_id = m.customer_id AND c.period = m.period
    UNION ALL
    SELECT m.customer_id, m.period, a.booked_at, a.adjustment_id, a.usd_cents
    FROM {_MONTHS} JOIN adjustments a ON a.customer_id = m.customer_id AND a.period = m.period
    UNION ALL
    SELECT m.customer_id, m.period, a.booked_at, a.adjustment_id, a.usd_cents
    FROM {_MONTHS} JOIN manual_adjustments a ON a.customer_id = m.customer_id AND a.period = m.period
), days AS (
    SELECT customer_id, period, CAST(at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS entry_count,
           sum(usd_cents) AS usd_cents,
           sha256(convert_to(
               string_agg(id || ' ' || trim_scale(usd_cents), E'\\n' ORDER BY id COLLATE "C"), 'UTF8')) AS digest
    FROM entries GROUP BY 1, 2, 3
)
SELECT customer_id, period, sum(entry_count) AS entry_count, sum(usd_cents) AS usd_cents,
       sha256(convert_to(string_agg(day || ' ' || encode(digest, 'hex'), E'\\n' ORDER BY day), 'UTF8')) AS digest
FROM days GROUP BY 1, 2
"""


def seals(connection: Connection, months: Sequence[OpenMonth]) -> Mapping[MonthKey, Seal]:
    """The seals of these months; one without entries is left out."""
    rows = connection.exec_driver_sql(_SEALS, _parameters(months))
    return {
        (row.customer_id, row.period): Seal(
            entry_count=int(row.entry_count), usd_cents=row.usd_cents, digest=bytes(row.digest)
        )
        for row in rows
    }


def line_sums(connection: Connection, months: Sequence[OpenMonth]) -> Mapping[MonthKey, Sequence[LineSum]]:
    """The exact sums of these months' entries by invoice line; a month without entries is left out."""
    parameters = _parameters(months)
    bounds = {(month.customer_id, month.period): month for month in months}
    lines: dict[MonthKey, dict[str, LineSum]] = defaultdict(dict)
    for row in connection.exec_driver_sql(_CHARGES, parameters):
        key = (row.customer_id, row.period)
        line = _usage_line(row, bounds[key])
        lines[key][line.line_key] = line
    for row in connection.exec_driver_sql(_ADJUSTMENTS, parameters):
        key = (row.customer_id, row.period)
        if row.own:
            change = _usage_line(row, bounds[key])
            lines[key][change.line_key] = _add(lines[key][change.line_key], change)
        elif row.usd_cents:
            line = _adjustment_line(row)
            lines[key][line.line_key] = line
    for row in connection.exec_driver_sql(_MANUAL, parameters):
        line = _manual_line(row)
        lines[row.customer_id, row.period][line.line_key] = line
    return {key: list(found.values()) for key, found in lines.items()}


def _parameters(months: Iterable[OpenMonth]) -> dict[str, Any]:
    return {"months": _encode(list(months)).decode()}


def _usage_line(row: Any, month: OpenMonth) -> LineSum:
    late = row.late_month if hasattr(row, "late_month") else row.month
    return LineSum(
        kind=LineKind.LATE_USAGE if late else LineKind.USAGE,
        usd_cents=row.usd_cents,
        starts_at=row.first_end if late else month.starts_at,
        ends_at=row.last_end if late else month.ends_at,
        provider=row.provider,
        model=row.model,
        month=late,
        stream_count=row.stream_count,
        usage=_usage({name: int(getattr(row, name) or 0) for name in COUNTERS}),
    )


def _adjustment_line(row: Any) -> LineSum:
    return LineSum(
        kind=LineKind.ADJUSTMENT,
        usd_cents=row.usd_cents,
        starts_at=row.first_end,
        ends_at=row.last_end,
        provider=row.provider,
        model=row.model,
        month=row.month,
        stream_count=row.streams,
    )


def _manual_line(row: Any) -> LineSum:
    return LineSum(
        kind=LineKind(ManualKind(row.kind).value),
        usd_cents=row.usd_cents,
        starts_at=row.booked_at,
        ends_at=row.booked_at,
        adjustment_id=row.adjustment_id,
        reason=row.reason,
    )


def _add(line: LineSum, change: LineSum) -> LineSum:
    counts = zip(COUNTERS, line.usage.counts(), change.usage.counts(), strict=True)
    return replace(
        line,
        usd_cents=EXACT.add(line.usd_cents, change.usd_cents),
        stream_count=line.stream_count + change.stream_count,
        usage=_usage({name: (before or 0) + (more or 0) for name, before, more in counts}),
    )


def _usage(counts: Mapping[str, int]) -> Usage:
    """A sum of nothing is not told apart from one of what nobody counted."""
    return Usage(**{name: count or None for name, count in counts.items()})
