"""What customers have come to in windows of their own calendars, for all of them in one query.

Figures are final ones, what is pending included; what open streams accrue is not.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from metering.domain.alert_windows import DayWindow, Window, day_windows, month_windows
from metering.domain.events import Outcome, UsageSource
from metering.records.rollups import DAILY, HOURLY, MONTHLY, Rollup, narrowest
from metering.totals.edges import bills_within
from metering.totals.figures import Figures
from metering.totals.spans import Source, Span, day_spans, month_spans

_encode = msgspec.json.Encoder().encode

# What makes an amount an estimated one: nobody counted it, or the end was concluded from silence.
ESTIMATE, ABANDONED = UsageSource.ESTIMATE.value, Outcome.ABANDONED.value


@dataclass(frozen=True, slots=True)
class _Piece:
    """A span of a window; `before` when it is of the days before it."""

    time_zone: str
    window: Window
    complete: bool
    trailing_days: int
    before: bool
    span: Span


def customer_months(*, now: datetime, time_zones: Iterable[str], only: str | None) -> Figures:
    """Of months; `only` is a query for the ids of those customers who matter, None takes all."""
    pieces = [
        _Piece(zone, window, False, 0, False, span)
        for zone in time_zones
        for period, window in month_windows(now=now, time_zone=ZoneInfo(zone))
        for span in month_spans(period, starts_at=window.starts_at, ends_at=window.ends_at)
    ]
    return _figures(pieces, only)


def customer_days(
    *, now: datetime, time_zones: Iterable[str], trailing: Collection[int], only: str | None
) -> Figures:
    """Of days, once for each number of days before them; `only` is as for months."""
    pieces = [
        piece
        for zone in time_zones
        for day in day_windows(now=now, time_zone=ZoneInfo(zone))
        for trailing_days in trailing
        for piece in _pieces_of_day(zone, day, trailing_days)
    ]
    return _figures(pieces, only)


def _pieces_of_day(zone: str, day: DayWindow, trailing_days: int) -> list[_Piece]:
    window, begin = day.window, day.begin_of(trailing_days)
    own = day_spans(starts_at=window.starts_at, ends_at=window.ends_at)
    before = day_spans(starts_at=begin, ends_at=window.starts_at)
    return [
        *(_Piece(zone, window, day.complete, trailing_days, False, span) for span in own),
        *(_Piece(zone, window, day.complete, trailing_days, True, span) for span in before),
    ]


_SPANS = """
    json_to_recordset(CAST(:spans AS json)) AS s (time_zone text, alert_window text, complete boolean,
        trailing_days integer, before boolean, source text, from_ timestamptz, to_ timestamptz, sign integer)
"""
_SPAN = "m.customer_id, m.time_zone, s.alert_window, s.complete, s.trailing_days, s.before"
_IS_ESTIMATED = "t.usage_source = :estimate OR t.outcome = :abandoned"


def _figures(pieces: Sequence[_Piece], only: str | None) -> Figures:
    monthly = narrowest(MONTHLY, dimensions={"customer_id", "outcome", "usage_source"})
    daily = narrowest(DAILY, dimensions={"customer_id"})
    sources = {piece.span.source for piece in pieces}
    parts = [
        *([_rolled_up(Source.MONTH, monthly, _IS_ESTIMATED)] if Source.MONTH in sources else []),
        # Sums by day are not by outcome: only months are asked for what of them is estimated.
        *([_rolled_up(Source.DAY, daily, "false")] if Source.DAY in sources else []),
        *([_rolled_up(Source.HOUR, HOURLY, _IS_ESTIMATED)] if Source.HOUR in sources else []),
        _PENDING,
        *([_PARTS_OF_HOURS] if Source.PART in sources else []),
    ]
    members = "" if only is None else f"WHERE c.customer_id IN ({only})"
    query = f"""
        WITH spans AS MATERIALIZED (SELECT * FROM {_SPANS}),
        members AS (SELECT c.customer_id, c.time_zone FROM customers c {members}),
        parts AS ({" UNION ALL ".join(parts)})
        SELECT customer_id, alert_window, time_zone, complete, trailing_days,
               coalesce(sum(usd_cents) FILTER (WHERE NOT before), 0) AS usd_cents,
               coalesce(sum(usd_cents) FILTER (WHERE before), 0) AS before_usd_cents,
               coalesce(sum(usd_cents) FILTER (WHERE estimated), 0) AS estimated_usd_cents,
               CAST(0 AS bigint) AS count, CAST(NULL AS timestamptz) AS since,
               CAST(NULL AS text) AS reconciliation_id
        FROM parts GROUP BY customer_id, alert_window, time_zone, complete, trailing_days
    """
    parameters = {
        "spans": _encode([_span_row(piece) for piece in pieces]).decode(),
        "estimate": ESTIMATE,
        "abandoned": ABANDONED,
        "customer_id": None,
        **{f"{source.value}s": _buckets(pieces, source) for source in (Source.MONTH, Source.DAY, Source.HOUR)},
    }
    return Figures(query, parameters, {(piece.time_zone, piece.window.key): piece.window for piece in pieces})


def _rolled_up(source: Source, rollup: Rollup, estimated: str) -> str:
    # The buckets by name, so that an index finds them; which of them are of whose window, the spans tell.
    return f"""
        SELECT {_SPAN}, s.sign * t.usd_cents AS usd_cents, {estimated} AS estimated
        FROM {rollup.table} t JOIN members m ON m.customer_id = t.customer_id
        JOIN spans s ON s.source = '{source.value}' AND s.time_zone = m.time_zone
            AND t.{rollup.bucket} >= s.from_ AND t.{rollup.bucket} < s.to_
        WHERE t.{rollup.bucket} = ANY(:{source.value}s)
    """


_PENDING = f"""
    SELECT {_SPAN}, s.sign * t.usd_cents AS usd_cents, {_IS_ESTIMATED} AS estimated
    FROM totals_pending t JOIN members m ON m.customer_id = t.customer_id
    JOIN spans s ON s.source <> '{Source.PART.value}' AND s.time_zone = m.time_zone
        AND t.hour >= s.from_ AND t.hour < s.to_
"""
_BILLS = bills_within(lambda column: f"{column} >= s.from_ AND {column} < s.to_")
_PARTS_OF_HOURS = f"""
    SELECT {_SPAN}, s.sign * t.usd_cents AS usd_cents, {_IS_ESTIMATED} AS estimated
    FROM spans s CROSS JOIN LATERAL ({_BILLS}) AS t
    JOIN members m ON m.customer_id = t.customer_id AND m.time_zone = s.time_zone
    WHERE s.source = '{Source.PART.value}'
"""


def _span_row(piece: _Piece) -> dict[str, Any]:
    return {
        "time_zone": piece.time_zone,
        "alert_window": piece.window.key,
        "complete": piece.complete,
        "trailing_days": piece.trailing_days,
        "before": piece.before,
        "source": piece.span.source,
        "from_": piece.span.from_,
        "to_": piece.span.to_,
        "sign": piece.span.sign,
    }


def _buckets(pieces: Iterable[_Piece], source: Source) -> list[datetime]:
    """All months, days or hours that spans of a source are made of."""
    spans = {(piece.span.from_, piece.span.to_) for piece in pieces if piece.span.source is source}
    if source is Source.MONTH:
        return sorted({from_ for from_, _ in spans})
    step = timedelta(days=1) if source is Source.DAY else timedelta(hours=1)
    return sorted({from_ + place * step for from_, to_ in spans for place in range((to_ - from_) // step)})
