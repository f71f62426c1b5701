"""Invariants of the totals: they are the sums of what is booked, and of each other."""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection

from metering.audit.checks import Check, broken
from metering.audit.difference import Difference
from metering.ledger.rollups import DETAILED, DIMENSIONS, ROLLUPS, SUMS, Rollup
from metering.totals.queries.edges import edge_bills, within_edges

_SUMMED = ", ".join(f"sum({name}) AS {name}" for name in SUMS)


def _compare(stored: str, derived: str, key: tuple[str, ...]) -> str:
    """The groups of which two queries have other sums; a group without anything is like none."""
    same_key = " AND ".join(f"stored.{name} = derived.{name}" for name in key)
    shown = " || ' ' || ".join(f"coalesce(stored.{name}, derived.{name})::text" for name in key)
    pairs = [(f"coalesce(stored.{name}, 0)", f"coalesce(derived.{name}, 0)") for name in SUMS]
    wrong = " OR ".join(f"{a} <> {b}" for a, b in pairs)
    says = ", ".join(
        f"CASE WHEN {a} <> {b} THEN format('{name}: stored %s, derived %s', {a}, {b}) END"
        for name, (a, b) in zip(SUMS, pairs, strict=True)
    )
    return f"""
        SELECT {shown} AS key, concat_ws('; ', {says}) AS says
        FROM ({stored}) AS stored FULL JOIN ({derived}) AS derived ON {same_key}
        WHERE {wrong}
    """


_HOURLY_KEY = ("customer_id", "hour", *DIMENSIONS[1:])
_HOURLY_COLUMNS = ", ".join((*_HOURLY_KEY, *SUMS))
_BY_HOURLY_KEY = f"GROUP BY {', '.join(_HOURLY_KEY)}"
_STORED_HOURS = f"""
    SELECT {", ".join(_HOURLY_KEY)}, {_SUMMED} FROM (
        SELECT {_HOURLY_COLUMNS} FROM totals_hourly WHERE hour >= :begin AND hour < :end
        UNION ALL SELECT {_HOURLY_COLUMNS} FROM totals_pending WHERE hour >= :begin AND hour < :end
    ) AS hours {_BY_HOURLY_KEY}
"""
_BILLS = edge_bills(within=within_edges)
_DERIVED_HOURS = f"SELECT {', '.join(_HOURLY_KEY)}, {_SUMMED} FROM ({_BILLS}) AS bills {_BY_HOURLY_KEY}"


def check_hourly_totals(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """An hour's totals are the sums of the newest bills that ended in it, and of what was adjusted by hand."""
    return broken(
        connection,
        DETAILED.table,
        _compare(_STORED_HOURS, _DERIVED_HOURS, _HOURLY_KEY),
        begin,
        end,
        head=begin,
        head_end=end,
        tail=end,
        tail_end=end,
        customer_id=None,
    )


def check_rollups(connection: Connection, begin: datetime, end: datetime) -> Iterator[Difference]:
    """Sums by less detail, and by days and months, are those of their hours."""
    for rollup in ROLLUPS:
        if rollup is not DETAILED:
            yield from broken(connection, rollup.table, _compare(*_rollup_queries(rollup), rollup.key), begin, end)


def _rollup_queries(rollup: Rollup) -> tuple[str, str]:
    bucket = f"date_trunc('{rollup.bucket}', hour) AS {rollup.bucket}"
    within = f">= date_trunc('{rollup.bucket}', CAST(:begin AS timestamptz))"
    columns = [bucket if name == rollup.bucket else name for name in rollup.key]
    places = ", ".join(str(place + 1) for place in range(len(columns)))
    stored = f"""
        SELECT {", ".join((*rollup.key, *SUMS))} FROM {rollup.table}
        WHERE {rollup.bucket} {within} AND {rollup.bucket} < :end
    """
    derived = f"""
        SELECT {", ".join(columns)}, {_SUMMED} FROM totals_hourly
        WHERE date_trunc('{rollup.bucket}', hour) {within} AND date_trunc('{rollup.bucket}', hour) < :end
        GROUP BY {places}
    """
    return stored, derived


TOTAL_CHECKS: tuple[Check, ...] = (check_hourly_totals, check_rollups)
