"""Totals in one query: final amounts from the sums by month, day and hour, and accrued amounts of open streams."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from metering.core.money import ZERO
from metering.core.time_zones import UTC_ZONE
from metering.db.citus import on_citus
from metering.db.locks import Lock, share
from metering.db.rows import json_rows
from metering.events.usage import COUNTERS, TIMED_COUNTERS, Quantity
from metering.ledger.rollups import DAILY, DAILY_BY_KEY, DIMENSIONS, HOURLY, MONTHLY, SUMS, Rollup, narrowest
from metering.streams.accrue_streams import Accrual
from metering.streams.retries import RETRY
from metering.totals.queries.edges import edge_bills, within_edges
from metering.totals.queries.keyed_days import WITH_KEYED_DAYS, tables_of_days
from metering.totals.queries.moved_months import moved_rows, parameters_of, with_moved
from metering.totals.queries.orders import BY_CHANGE, BY_COST, Order, after_position, ordered_by
from metering.totals.queries.quarters import WITH_QUARTERS, quarter_rows, stretches_of_bills
from metering.totals.queries.question import Group, TotalRow, TotalsQuestion
from metering.totals.ranges import (
    Granularity,
    Range,
    Unit,
    bucket_starts,
    page_ranges,
    utc_ranges,
    zoned_stretches,
)

# What is summed of a question without counters. Each sum takes time in each of up to a million rows.
_FEW_SUMS = ("stream_count", "usd_cents")
_OTHER_SUMS = ("accrued_usd_cents", "accruing_stream_count", "compared_usd_cents", "compared_stream_count")
# Up to about three months by model are fewer rows in the daily sums by model than in the monthly ones by customer.
_FEW_DAYS = timedelta(days=92)


def read_totals(
    connection: Connection, *, question: TotalsQuestion, accruals: Sequence[Accrual] = ()
) -> Sequence[TotalRow]:
    """Up to `limit` rows in the question's order; by default by start and groups."""
    if on_citus(connection):
        # Each shard is read as it is at that moment: nothing may move from the pending sums to others meanwhile.
        share(connection, Lock.ROLL_UP)
    if not _has_large_buckets(question):
        return _read(connection, question, accruals)
    zone = _zone_of(question) or UTC_ZONE
    after = question.after[0] if question.after else None
    rows: list[TotalRow] = []
    for from_, to in page_ranges(question.from_, question.to, question.granularity, zone, after=after):
        part = replace(question, from_=from_, to=to, limit=question.limit - len(rows))
        rows += _read(connection, part, [each for each in accruals if from_ <= each.at < to])
        if len(rows) >= question.limit:
            break
    return rows


def _has_large_buckets(question: TotalsQuestion) -> bool:
    """Whether a few hours, days or months may fill a page: then the others need not be summed."""
    by_many = Group.API_KEY_ID in question.group_by or (
        Group.CUSTOMER_ID in question.group_by and question.customer_id is None
    )
    by_time = question.granularity is not Granularity.NONE and question.order is Order.GROUP
    return by_many and by_time and question.months is None and question.compared is None


def _read(connection: Connection, question: TotalsQuestion, accruals: Sequence[Accrual]) -> Sequence[TotalRow]:
    keys = ["bucket", *(group.value for group in question.group_by)]
    names = [f"k{place}" for place in range(len(keys))]
    parameters: dict[str, Any] = {
        "granularity": question.granularity.value,
        "customer_id": question.customer_id,
        "invoiced": str(question.invoiced),
        "limit": question.limit,
        "accruals": json_rows(accruals),
        **{f"only_{group.value}": value for group, value in question.only.items()},
    }
    order = ordered_by(question.order, smallest_first=question.smallest_first)
    after, after_parameters = after_position(
        question.after, order=question.order, names=names, smallest_first=question.smallest_first
    )
    parameters |= after_parameters
    # Citus may not sum parts of a union by other columns than the customer's within each node.
    summed_first = question.granularity is Granularity.NONE and not on_citus(connection)
    rows = " UNION ALL ".join(_all_rows(question, parameters, summed_first=summed_first))
    measures = (*_sums(question), *_OTHER_SUMS)
    query = f"""
        {_with(connection, question, parameters)} SELECT * FROM (
            SELECT {", ".join(f"{key} AS {name}" for key, name in zip(keys, names, strict=True))},
                   {", ".join(f"sum({measure}) AS {measure}" for measure in measures)}
            FROM ({rows})
                AS all_kinds ({", ".join([*keys, *measures])})
            GROUP BY {", ".join(names)}
            HAVING sum(stream_count) <> 0 OR sum(usd_cents) <> 0 OR sum(accruing_stream_count) <> 0
                   OR sum(compared_stream_count) <> 0 OR sum(compared_usd_cents) <> 0
        ) AS grouped {after}
        ORDER BY {", ".join([*order, *names])} LIMIT :limit
    """
    if question.order is Order.EITHER:
        query = _either(query.replace("LIMIT :limit", ""), names)
    return [_row(row, question, names) for row in connection.execute(text(query), parameters)]


def _either(query: str, names: Sequence[str]) -> str:
    """The rows of a query that are among the first by cost or among the first by change."""
    ties = ", ".join(names)
    return f"""
        SELECT * FROM (
            SELECT grouped.*, row_number() OVER (ORDER BY {BY_COST}, {ties}) AS by_cost,
                   row_number() OVER (ORDER BY {BY_CHANGE}, {ties}) AS by_change FROM ({query}) AS grouped
        ) AS numbered WHERE by_cost <= :limit OR by_change <= :limit ORDER BY by_cost
    """


def _sums(question: TotalsQuestion) -> tuple[str, ...]:
    return SUMS if question.counters else _FEW_SUMS


def _final(question: TotalsQuestion) -> Sequence[str]:
    """The measures of a row of final amounts: the sums, then `_OTHER_SUMS`."""
    return (*_sums(question), *("0" for _ in _OTHER_SUMS))


def _not_final(question: TotalsQuestion, *others: str) -> Sequence[str]:
    """The measures of a row of other amounts: no sums, and these `_OTHER_SUMS`."""
    return (*("0" for _ in _sums(question)), *others)


def _all_rows(question: TotalsQuestion, parameters: dict[str, Any], *, summed_first: bool) -> list[str]:
    """Queries of the rows to sum, each with the bucket, the groups and the measures; adds their parameters.

    With `summed_first`, tables of all dimensions are summed by themselves, which PostgreSQL does in parallel.
    """
    final, compared = _final(question), _not_final(question, "0", "0", "usd_cents", "stream_count")
    accrued = _not_final(question, "usd_cents", "1", "0", "0")
    rows = [
        f"""
        SELECT {_keys(question, "at")}, {", ".join(accrued)}
        FROM jsonb_to_recordset(CAST(:accruals AS jsonb)) AS accrued (
            at timestamptz, {", ".join(f"{name} text" for name in DIMENSIONS)}, usd_cents numeric)
        WHERE {_only(question)}
        """
    ]
    if _zone_of(question) is None:
        whole = (question.from_, question.to)
        rows += _utc_rows(question, whole, final, parameters, prefix="", summed_first=summed_first)
    else:
        rows += _zoned_rows(question, parameters)
    if question.months is not None:
        rows += _moved_rows(question, final, prefix="")
    if question.compared is not None:
        rows += _utc_rows(
            question, question.compared, compared, parameters, prefix=_COMPARED_PREFIX, summed_first=summed_first
        )
    if question.compared_months is not None:
        rows += _moved_rows(question, compared, prefix=_COMPARED_PREFIX)
    return rows


_COMPARED_PREFIX = "compared_"


def _with(connection: Connection, question: TotalsQuestion, parameters: dict[str, Any]) -> str:
    """The definitions that the rows of `months` and of quarters need; adds the parameters of `months`."""
    found = []
    final, compared = (question.from_, question.to), question.compared
    for months, range_, prefix in (
        (question.months, final, ""),
        (question.compared_months, compared, _COMPARED_PREFIX),
    ):
        if months is not None and range_ is not None:
            found.append(with_moved(range_, months, prefix=prefix))
            parameters |= parameters_of(connection, months, prefix=prefix)
    if _zone_of(question) is not None:
        found.append(WITH_QUARTERS)
    if _tables(question)[1] is DAILY_BY_KEY:
        found.append(WITH_KEYED_DAYS)
    return f"WITH {', '.join(found)}" if found else ""


def _moved_rows(question: TotalsQuestion, measures: Sequence[str], *, prefix: str) -> list[str]:
    needed = {"customer_id", *(group.value for group in (*question.group_by, *question.only))}
    return moved_rows(
        hourly=narrowest(HOURLY, dimensions=needed),
        keys=lambda column: _keys(question, column),
        measures=measures,
        only=_only(question),
        prefix=prefix,
    )


def _zone_of(question: TotalsQuestion) -> ZoneInfo | None:
    """The time zone, when the granularity depends on it."""
    return question.time_zone if question.granularity in (Granularity.DAY, Granularity.MONTH) else None


def _keys(question: TotalsQuestion, column: str) -> str:
    """The bucket of a time, as text that sorts like the time, and the groups."""
    bucket = "''"
    if question.months is not None:
        column = f"LEAST(GREATEST({column}, :starts_at), CAST(:ends_at AS timestamptz) - interval '1 microsecond')"
    if question.granularity is not Granularity.NONE:
        start = f"date_trunc(:granularity, {column})"
        if _zone_of(question) is not None:
            start = f"(CAST(:starts AS timestamptz[]))[width_bucket({column}, CAST(:starts AS timestamptz[]))]"
        bucket = f'to_char({start}, \'YYYY-MM-DD"T"HH24:MI:SS"Z"\')'
    return ", ".join([bucket, *(group.value for group in question.group_by)])


def _only(question: TotalsQuestion) -> str:
    """The condition of the question's filters; `true` without filters."""
    conditions = [f"{group.value} = :only_{group.value}" for group in question.only]
    if question.customer_id is not None:
        conditions.append("customer_id = :customer_id")
    if question.invoiced is not None:
        conditions.append("customer_id IN (SELECT i.customer_id FROM invoices i WHERE i.period = :invoiced)")
    return " AND ".join(conditions) or "true"


def _tables(question: TotalsQuestion) -> tuple[Rollup, Rollup, Rollup]:
    """The narrowest tables of sums by hour, day and month that have the question's dimensions."""
    needed = {group.value for group in (*question.group_by, *question.only)}
    if question.customer_id is not None or question.invoiced is not None:
        needed.add("customer_id")
    hourly, daily, monthly = (narrowest(rollups, dimensions=needed) for rollups in (HOURLY, DAILY, MONTHLY))
    return hourly, daily, monthly


def _utc_rows(
    question: TotalsQuestion,
    within: Range,
    measures: Sequence[str],
    parameters: dict[str, Any],
    *,
    prefix: str,
    summed_first: bool,
) -> list[str]:
    """Sums of whole months, of the remaining days and hours, pending sums, and the bills in parts of an hour."""
    hourly, daily, monthly = _tables(question)
    by_day = daily is DAILY[0] and within[1] - within[0] <= _FEW_DAYS and question.granularity is Granularity.NONE
    finest = Granularity.DAY if by_day else question.granularity
    parameters |= {f"{prefix}{name}": at for name, at in utc_ranges(*within, finest).items()}
    plain, sums = ", ".join(measures), ", ".join(each if each == "0" else f"sum({each})" for each in measures)
    grouped = f"GROUP BY {', '.join(str(place + 1) for place in range(1 + len(question.group_by)))}"
    sources = [
        (hourly, "hours", "days", "true"),
        *((table, "days", "months", if_) for table, if_ in tables_of_days(daily)),
        (monthly, "months", "nothing", "true"),
    ]
    first = {each.table for each, *_ in sources if summed_first and each.dimensions == DIMENSIONS}
    rows = [
        f"""
        SELECT {_keys(question, rollup.bucket)}, {sums if rollup.table in first else plain} FROM {rollup.table}
        WHERE ({rollup.bucket} >= :{prefix}{outer}_from AND {rollup.bucket} < :{prefix}{inner}_from
               OR {rollup.bucket} >= :{prefix}{inner}_to AND {rollup.bucket} < :{prefix}{outer}_to)
          AND {if_} AND {_only(question)} {grouped if rollup.table in first else ""}
        """
        for rollup, outer, inner, if_ in sources
    ]
    edges = edge_bills(within=lambda column: within_edges(column, prefix=prefix))
    return [
        *rows,
        f"""
        SELECT {_keys(question, "hour")}, {plain} FROM totals_pending
        WHERE hour >= :{prefix}hours_from AND hour < :{prefix}hours_to AND {_only(question)}
        """,
        f"SELECT {_keys(question, 'hour')}, {plain} FROM ({edges}) AS edges WHERE {_only(question)}",
    ]


def _zoned_rows(question: TotalsQuestion, parameters: dict[str, Any]) -> list[str]:
    """The same by days or months of a time zone, which start within UTC days and possibly within hours."""
    zone = _zone_of(question)
    assert zone is not None
    # PostgreSQL may have other rules for the zone, and takes the second of two equal midnights as a day's start.
    parameters["starts"] = bucket_starts(question.from_, question.to, question.granularity, zone)
    for unit in Unit:
        parameters[unit.value] = "[]"
    for unit, stretches in groupby(
        zoned_stretches(question.from_, question.to, question.granularity, zone), key=lambda each: each.unit
    ):
        parameters[unit.value] = json_rows({"from_": each.from_, "to_": each.to} for each in stretches)
    hourly, daily, _ = _tables(question)
    sources = (
        *((each.table, each.bucket, Unit.DAYS, if_) for each, if_ in tables_of_days(daily)),
        (hourly.table, hourly.bucket, Unit.HOURS, "true"),
        ("totals_pending", "hour", Unit.PENDING, "true"),
    )
    final = ", ".join(_final(question))
    bills = edge_bills(within=_in_stretch, joined=f"JOIN ({stretches_of_bills(hourly)}) AS stretch ON true")
    return [
        *quarter_rows(hourly, keys=lambda column: _keys(question, column), measures=final, only=_only(question)),
        *(
            f"""
            SELECT {_keys(question, bucket)}, {final}
            FROM {table} {_stretches(unit)} ON {_in_stretch(bucket)} WHERE {if_} AND {_only(question)}
            """
            for table, bucket, unit, if_ in sources
        ),
        f"SELECT {_keys(question, 'at')}, {final} FROM ({bills}) AS bills WHERE {_only(question)}",
    ]


def _counters(row: Any) -> dict[str, Quantity]:
    return {counter: _counted(counter, getattr(row, counter)) for counter in COUNTERS}


def _counted(counter: str, total: Decimal | None) -> Quantity:
    return (total or ZERO) if counter in TIMED_COUNTERS else int(total or 0)


def _stretches(unit: Unit) -> str:
    return f"JOIN jsonb_to_recordset(CAST(:{unit.value} AS jsonb)) AS stretch (from_ timestamptz, to_ timestamptz)"


def _in_stretch(column: str) -> str:
    return f"{column} >= stretch.from_ AND {column} < stretch.to_"


def _row(row: Any, question: TotalsQuestion, names: Sequence[str]) -> TotalRow:
    position = tuple(getattr(row, name) for name in names)
    # An unknown value is stored as "": a missing API key, or the outcome of an open stream.
    group: dict[str, str | bool | None] = {
        key.value: value == RETRY if key is Group.RETRY else value or None
        for key, value in zip(question.group_by, position[1:], strict=True)
    }
    return TotalRow(
        start=datetime.fromisoformat(position[0]) if position[0] else None,
        group=group,
        stream_count=int(row.stream_count),
        counters=_counters(row) if question.counters else {},
        usd_cents=row.usd_cents,
        upstream_usd_cents=(row.upstream_usd_cents or ZERO) if question.counters else ZERO,
        accrued_usd_cents=row.accrued_usd_cents,
        accruing_stream_count=int(row.accruing_stream_count),
        compared_stream_count=int(row.compared_stream_count),
        compared_usd_cents=row.compared_usd_cents,
        position=position,
    )
