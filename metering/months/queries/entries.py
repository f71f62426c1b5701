"""Queries for the entries of months that are being closed: their sums by invoice line, and their seals."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, text

from metering.core.money import EXACT
from metering.credits.queries.drawn_of_months import drawn_of_months
from metering.events.usage import COUNTERS, TIMED_COUNTERS, Quantity, Usage
from metering.ledger.entries import ManualKind
from metering.months.invoice import LineKind, LineSum

_encode = msgspec.json.Encoder().encode


class OpenMonth(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's month that is being closed, with its bounds, half-open."""

    customer_id: str
    period: str
    time_zone: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The number of a month's entries, their exact sum, and a SHA-256 hash over all of them."""

    entry_count: int
    usd_cents: Decimal
    digest: bytes


# (customer_id, period).
MonthKey = tuple[str, str]

_MONTHS = """
    json_to_recordset(CAST(:months AS json))
    AS m (customer_id text, period text, time_zone text, starts_at timestamptz, ends_at timestamptz)
"""
# The kind and month of the invoice line that sums an entry `e`; `m` has the month's `starts_at` and `time_zone`.
# An adjustment of an earlier month's charge has a line of its own. A stream that ended before the month is late.
_LATE = "e.charged_ended_at < m.starts_at"
LINE_KIND = f"""
    CASE WHEN e.revision IS NULL THEN e.kind WHEN e.charged_period <> e.period THEN 'adjustment'
         WHEN {_LATE} THEN 'late_usage' ELSE 'usage' END
"""
LINE_MONTH = f"""
    CASE WHEN e.charged_period <> e.period THEN e.charged_period
         WHEN {_LATE} THEN to_char(e.charged_ended_at AT TIME ZONE m.time_zone, 'YYYY-MM') END
"""
# The key of that line: the same text as `line_key_of` gives.
_PROVIDER, _MODEL = (
    f"replace(replace(e.charged_{name}, '%', '%25'), '/', '%2F')" for name in ("provider", "model")
)
LINE_KEY = f"concat_ws('/', {LINE_KIND}, {LINE_MONTH}, {_PROVIDER}, {_MODEL})"

# The entries `e` of months `m`, and the columns that say which line of the month sums an entry.
MONTHS_WITH_ENTRIES = f"{_MONTHS} JOIN entries e ON e.customer_id = m.customer_id AND e.period = m.period"
# Those of them that are adjustments.
MONTHS_WITH_ADJUSTMENTS = f"""
    {_MONTHS} JOIN (SELECT *, 'adjustment' AS kind FROM adjustments) AS e
    ON e.customer_id = m.customer_id AND e.period = m.period
"""
LINE_OF_ENTRY = f"""
    m.customer_id, m.period, {LINE_KIND} AS kind, {LINE_MONTH} AS month, e.charged_provider AS provider,
    e.charged_model AS model
"""
_CHARGES = text(
    f"""
SELECT {LINE_OF_ENTRY}, min(e.ended_at) AS first_end, max(e.ended_at) AS last_end, count(*) AS stream_count,
       {", ".join(f"sum(e.{name}) AS {name}" for name in COUNTERS)}, sum(e.usd_cents) AS usd_cents
FROM {MONTHS_WITH_ENTRIES} WHERE e.kind = 'charge' GROUP BY 1, 2, 3, 4, 5, 6
"""
)

# Adjustments of the month's own charges change the lines of those charges. The last adjustment of a stream has its
# final usage.
_ADJUSTMENTS = text(
    f"""
SELECT customer_id, period, kind, month, provider, model, min(ended_at) AS first_end, max(ended_at) AS last_end,
       count(DISTINCT stream_id) AS streams, -count(*) FILTER (WHERE last AND taken_back) AS stream_count,
       {", ".join(f"coalesce(sum({name}) FILTER (WHERE last), 0) AS {name}" for name in COUNTERS)},
       sum(usd_cents) AS usd_cents
FROM (
    SELECT {LINE_OF_ENTRY}, e.stream_id, e.usd_cents, e.taken_back, c.ended_at,
           {", ".join(f"coalesce(e.{name}, 0) - coalesce(c.{name}, 0) AS {name}" for name in COUNTERS)},
           row_number() OVER (PARTITION BY e.customer_id, e.period, e.stream_id ORDER BY e.revision DESC) = 1
           AS last
    FROM {MONTHS_WITH_ENTRIES} JOIN charges c ON c.customer_id = e.customer_id AND c.stream_id = e.stream_id
    WHERE e.kind = 'adjustment'
) AS adjusted GROUP BY 1, 2, 3, 4, 5, 6
"""
)

_MANUAL = text(
    f"""
SELECT m.customer_id, m.period, e.entry_id AS adjustment_id, e.kind, e.reason, e.usd_cents, e.booked_at
FROM {MONTHS_WITH_ENTRIES} WHERE e.kind IN ('credit', 'correction')
"""
)

# Hashed in two levels, so that no month is too long for one text: first the entries of each UTC day (`id amount`,
# sorted, one per line), then the days (`day hash`, one per line).
_SEALS = text(
    f"""
WITH found AS (
    SELECT m.customer_id, m.period, e.entry_id AS id, e.usd_cents,
           CASE WHEN e.kind = 'charge' THEN e.ended_at ELSE e.booked_at END AS at
    FROM {MONTHS_WITH_ENTRIES}
), days AS (
    SELECT customer_id, period, CAST(at AT TIME ZONE 'UTC' AS date) AS day, count(*) AS entry_count,
           sum(usd_cents) AS usd_cents,
           sha256(convert_to(
               string_agg(id || ' ' || trim_scale(usd_cents), E'\\n' ORDER BY id COLLATE "C"), 'UTF8')) AS digest
    FROM found GROUP BY 1, 2, 3
)
SELECT customer_id, period, sum(entry_count) AS entry_count, sum(usd_cents) AS usd_cents,
       sha256(convert_to(string_agg(day || ' ' || encode(digest, 'hex'), E'\\n' ORDER BY day), 'UTF8')) AS digest
FROM days GROUP BY 1, 2
"""
)


_USAGE = (LineKind.USAGE, LineKind.LATE_USAGE)


def seals(connection: Connection, months: Sequence[OpenMonth]) -> Mapping[MonthKey, Seal]:
    """The seals of these months. A month without entries is left out."""
    rows = connection.execute(_SEALS, months_parameter(months))
    return {
        (row.customer_id, row.period): Seal(
            entry_count=int(row.entry_count), usd_cents=row.usd_cents, digest=bytes(row.digest)
        )
        for row in rows
    }


def line_sums(connection: Connection, months: Sequence[OpenMonth]) -> Mapping[MonthKey, Sequence[LineSum]]:
    """The exact sums of these months' entries by invoice line, and what grants paid of them.

    A month without entries is left out.
    """
    parameters = months_parameter(months)
    bounds = {(month.customer_id, month.period): month for month in months}
    lines: dict[MonthKey, dict[str, LineSum]] = defaultdict(dict)
    for row in connection.execute(_CHARGES, parameters):
        key = (row.customer_id, row.period)
        line = _usage_line(row, bounds[key])
        lines[key][line.line_key] = line
    for row in connection.execute(_ADJUSTMENTS, parameters):
        key = (row.customer_id, row.period)
        if row.kind in _USAGE:
            change = _usage_line(row, bounds[key])
            lines[key][change.line_key] = _add(lines[key][change.line_key], change)
        elif row.usd_cents:
            line = _adjustment_line(row)
            lines[key][line.line_key] = line
    for row in connection.execute(_MANUAL, parameters):
        line = _manual_line(row)
        lines[row.customer_id, row.period][line.line_key] = line
    for key, drawn in drawn_of_months(connection, bounds).items():
        line = _prepaid_line(drawn, bounds[key])
        lines[key][line.line_key] = line
    return {key: list(found.values()) for key, found in lines.items()}


def months_parameter(months: Iterable[OpenMonth]) -> dict[str, Any]:
    """Months as the parameter of MONTHS_WITH_ENTRIES."""
    return {"months": _encode(list(months)).decode()}


def _usage_line(row: Any, month: OpenMonth) -> LineSum:
    late = row.kind == LineKind.LATE_USAGE
    return LineSum(
        kind=LineKind(row.kind),
        usd_cents=row.usd_cents,
        starts_at=row.first_end if late else month.starts_at,
        ends_at=row.last_end if late else month.ends_at,
        provider=row.provider,
        model=row.model,
        month=row.month,
        stream_count=row.stream_count,
        usage=_usage({name: _counted(name, getattr(row, name)) for name in COUNTERS}),
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


def _prepaid_line(drawn: Decimal, month: OpenMonth) -> LineSum:
    return LineSum(
        kind=LineKind.PREPAID,
        usd_cents=EXACT.minus(drawn),
        starts_at=month.starts_at,
        ends_at=month.ends_at,
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


def _counted(name: str, total: Decimal | int | None) -> Quantity:
    return Decimal(total or 0) if name in TIMED_COUNTERS else int(total or 0)


def _usage(counts: Mapping[str, Quantity]) -> Usage:
    """Counters as usage. A sum of 0 becomes None, because a sum cannot say whether its counter was known."""
    return Usage(**{name: cast("Any", count or None) for name, count in counts.items()})
