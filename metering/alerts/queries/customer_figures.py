"""The amounts of customers in windows of their own time zones, for all customers in one query.

A window is made of signed spans (`spans.py`). Each row of a table of sums is read once. Its weight is 1, -1 or
NULL in each window of its customer's time zone (`in0`, `in1`, …), and in the days before the window (`before0`,
…). Amounts are final, including sums that are not rolled up yet; accruals of open streams are left out.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from metering.alerts.queries.figures import ABANDONED, ESTIMATE, Figures
from metering.alerts.spans import Source, Span, day_spans, month_spans
from metering.alerts.windows import DayWindow, Window, day_windows, month_windows
from metering.core.time_zones import shown_zone
from metering.db.rows import json_rows
from metering.ledger.rollups import DAILY, HOURLY, MONTHLY, narrowest
from metering.totals.queries.edges import edge_bills


@dataclass(frozen=True, slots=True)
class _Part:
    """A window of a time zone, compared with `trailing_days` before it, and the spans of both."""

    time_zone: str
    window: Window
    complete: bool
    trailing_days: int
    inside: Sequence[Span]
    before: Sequence[Span]


def customer_months(*, now: datetime, time_zones: Iterable[str], only: str | None) -> Figures:
    """Amounts of customers by month. `only` is a query for the ids of the customers to read; None reads all."""
    parts = [
        _Part(zone, window, False, 0, month_spans(month, starts_at=window.starts_at, ends_at=window.ends_at), ())
        for zone in time_zones
        for month, window in month_windows(now=now, time_zone=shown_zone(zone))
    ]
    return _figures(parts, only, estimates=True)


def customer_days(
    *, now: datetime, time_zones: Iterable[str], trailing: Collection[int], only: str | None
) -> Figures:
    """Amounts of customers by day, once per number of trailing days, without estimates; `only` as above."""
    parts = [
        _part_of_day(zone, day, trailing_days)
        for zone in time_zones
        for day in day_windows(now=now, time_zone=shown_zone(zone))
        for trailing_days in sorted(trailing)
    ]
    return _figures(parts, only, estimates=False)


def _part_of_day(zone: str, day: DayWindow, trailing_days: int) -> _Part:
    window = day.window
    inside = day_spans(starts_at=window.starts_at, ends_at=window.ends_at)
    before = day_spans(starts_at=day.midnight_before(trailing_days), ends_at=window.starts_at)
    return _Part(zone, window, day.complete, trailing_days, inside, before)


_BY_BUCKET = {Source.MONTH: MONTHLY, Source.DAY: DAILY, Source.HOUR: HOURLY}


def _figures(parts: Sequence[_Part], only: str | None, *, estimates: bool) -> Figures:
    placed = list(_placed(parts))
    places = range(max((place for place, _ in placed), default=-1) + 1)
    weights = [name for place in places for name in (f"in{place}", f"before{place}")]
    columns = ", ".join(f"{name} integer" for name in weights)
    whose = "" if only is None else f"AND t.customer_id IN ({only})"
    sources = {span.source for part in parts for span in (*part.inside, *part.before)}
    query = f"""
        WITH windows AS MATERIALIZED (SELECT * FROM json_to_recordset(CAST(:windows AS json)) AS w (place integer,
            time_zone text, alert_window text, complete boolean, trailing_days integer)),
        buckets AS MATERIALIZED (SELECT * FROM json_to_recordset(CAST(:buckets AS json)) AS b
            (time_zone text, source text, bucket timestamptz, {columns})),
        spans AS MATERIALIZED (SELECT * FROM json_to_recordset(CAST(:spans AS json)) AS s
            (time_zone text, source text, from_ timestamptz, to_ timestamptz, {columns})),
        weighed AS ({" UNION ALL ".join(_weighed(sources, weights, whose, estimates))}),
        sums AS (SELECT customer_id, {_sums(places, estimates)} FROM weighed GROUP BY customer_id)
        SELECT s.customer_id, w.alert_window, w.time_zone, w.complete, w.trailing_days,
               {_of_place(places, "in")} AS usd_cents, {_of_place(places, "before")} AS before_usd_cents,
               {_of_place(places, "estimated") if estimates else "0::numeric"} AS estimated_usd_cents,
               CAST(0 AS bigint) AS count, CAST(NULL AS timestamptz) AS since,
               CAST(NULL AS text) AS reconciliation_id
        FROM sums s JOIN customers c ON c.customer_id = s.customer_id JOIN windows w ON w.time_zone = c.time_zone
    """
    buckets = _bucket_rows(placed)
    parameters = {
        "windows": json_rows(_window_row(place, part) for place, part in placed),
        "spans": json_rows(_span_rows(placed)),
        "buckets": json_rows(buckets),
        "estimate": ESTIMATE,
        "abandoned": ABANDONED,
        "customer_id": None,
        **{
            f"{source.value}s": sorted({row["bucket"] for row in buckets if row["source"] is source})
            for source in _BY_BUCKET
        },
    }
    return Figures(query, parameters, {(part.time_zone, part.window.key): part.window for part in parts})


def _weighed(sources: Collection[Source], weights: Sequence[str], whose: str, estimates: bool) -> Iterator[str]:
    """Queries for amounts with their weights: rolled-up sums, pending sums, and bills in parts of an hour."""
    columns = ", ".join(f"w.{name}" for name in weights)
    estimated = _ESTIMATED if estimates else "0"
    needed = {"customer_id", "outcome", "usage_source"} if estimates else {"customer_id"}
    tables = {source: narrowest(rollups, dimensions=needed) for source, rollups in _BY_BUCKET.items()}
    rolled_up = " UNION ALL ".join(
        f"""
        SELECT t.customer_id, '{source.value}' AS source, t.{rollup.bucket} AS bucket, t.usd_cents,
               {estimated} AS estimated_usd_cents
        FROM {rollup.table} t WHERE t.{rollup.bucket} = ANY(:{source.value}s) {whose}
        """
        for source, rollup in tables.items()
        if source in sources
    )
    # An outer join tells PostgreSQL how many rows to expect; for an inner join it would guess far too few.
    yield f"""
        SELECT t.customer_id, t.usd_cents, t.estimated_usd_cents, {columns}
        FROM ({rolled_up}) AS t JOIN customers c ON c.customer_id = t.customer_id
        LEFT JOIN buckets w ON w.source = t.source AND w.bucket = t.bucket AND w.time_zone = c.time_zone
    """
    yield f"""
        SELECT t.customer_id, t.usd_cents, {estimated}, {columns}
        FROM totals_pending t JOIN customers c ON c.customer_id = t.customer_id
        JOIN spans w ON w.source <> 'part' AND w.time_zone = c.time_zone AND t.hour >= w.from_ AND t.hour < w.to_
        WHERE true {whose}
    """
    if Source.PART in sources:
        yield f"""
            SELECT t.customer_id, t.usd_cents, {estimated}, {columns}
            FROM spans w CROSS JOIN LATERAL ({_BILLS}) AS t
            JOIN customers c ON c.customer_id = t.customer_id AND c.time_zone = w.time_zone
            WHERE w.source = 'part' {whose}
        """


_ESTIMATED = "CASE WHEN t.usage_source = :estimate OR t.outcome = :abandoned THEN t.usd_cents ELSE 0 END"
_BILLS = edge_bills(within=lambda column: f"{column} >= w.from_ AND {column} < w.to_")


def _sums(places: Iterable[int], estimates: bool) -> str:
    sums = [f"sum(usd_cents * {part}{place}) AS {part}{place}" for place in places for part in ("in", "before")]
    if estimates:
        sums += [f"sum(estimated_usd_cents * in{place}) AS estimated{place}" for place in places]
    return ", ".join(sums)


def _of_place(places: Iterable[int], part: str) -> str:
    return f"coalesce(CASE w.place {' '.join(f'WHEN {place} THEN s.{part}{place}' for place in places)} END, 0)"


def _placed(parts: Iterable[_Part]) -> Iterator[tuple[int, _Part]]:
    """Each part with its number within its time zone."""
    places: dict[str, int] = {}
    for part in parts:
        places[part.time_zone] = places.get(part.time_zone, -1) + 1
        yield places[part.time_zone], part


def _window_row(place: int, part: _Part) -> dict[str, Any]:
    return {
        "place": place,
        "time_zone": part.time_zone,
        "alert_window": part.window.key,
        "complete": part.complete,
        "trailing_days": part.trailing_days,
    }


def _weighing(placed: Iterable[tuple[int, _Part]]) -> Iterator[tuple[str, Span, str]]:
    """(time zone, span, name of its weight)."""
    for place, part in placed:
        yield from ((part.time_zone, span, f"in{place}") for span in part.inside)
        yield from ((part.time_zone, span, f"before{place}") for span in part.before)


def _span_rows(placed: Iterable[tuple[int, _Part]]) -> Iterator[dict[str, Any]]:
    for time_zone, span, weight in _weighing(placed):
        yield {
            "time_zone": time_zone,
            "source": span.source,
            "from_": span.from_,
            "to_": span.to_,
            weight: span.sign,
        }


def _bucket_rows(placed: Iterable[tuple[int, _Part]]) -> list[dict[str, Any]]:
    """One row per time zone and month, day or hour; a missing weight becomes NULL."""
    rows: dict[tuple[str, Source, datetime], dict[str, Any]] = {}
    for time_zone, span, weight in _weighing(placed):
        for bucket in _buckets(span):
            key = (time_zone, span.source, bucket)
            row = rows.setdefault(key, dict(zip(("time_zone", "source", "bucket"), key, strict=True)))
            row[weight] = span.sign
    return list(rows.values())


def _buckets(span: Span) -> Iterator[datetime]:
    if span.source is Source.MONTH:
        yield span.from_
    elif span.source is not Source.PART:
        step = timedelta(days=1) if span.source is Source.DAY else timedelta(hours=1)
        yield from (span.from_ + place * step for place in range((span.to_ - span.from_) // step))
