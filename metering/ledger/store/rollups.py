"""Totals: each booking appends its exact amounts as pending rows; a worker rolls them up later.

So bookings never wait for each other on a shared total. A total is always the rolled-up sums plus the pending
rows. One transaction moves rows from pending to the sums, so a reader sees each of them exactly once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, text

from metering.core.money import EXACT, ZERO
from metering.db.engine import transaction
from metering.db.locks import Lock, try_to_take
from metering.db.rows import copy_rows, moment
from metering.events.usage import COUNTERS, USUAL_COUNTERS, Quantity
from metering.ledger.rollups import (
    DIMENSIONS,
    PLAIN_SUMS,
    QUARTER_MINUTES,
    QUARTERED,
    QUARTERLY_BY_MODEL,
    ROLLUPS,
    SPARSE_SUMS,
    START_OF_QUARTER,
    SUMS,
    Rollup,
)
from metering.streams.bill import Bill
from metering.streams.retries import NO_RETRY, RETRY

# (customer_id, hour, quarter, provider, model, api_key_id, outcome, usage_source, retry, inlet).
TotalKey = tuple[str, str, int, str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class BillChange:
    """A stream's newest bill before and after a booking; None for no bill."""

    customer_id: str
    before: Bill | None
    after: Bill | None


# Most sums have none of the sparse columns, and are written without them.
_NOTHING_SPARSE = (None,) * (len(COUNTERS) - USUAL_COUNTERS)


@dataclass(slots=True)
class _Sum:
    """`sparse` counters are None until one of them is counted."""

    stream_count: int
    usual: list[Quantity]
    usd_cents: Decimal
    sparse: list[Quantity] | None = None
    upstream_usd_cents: Decimal = ZERO

    def count(self, counts: tuple[Quantity | None, ...], sign: int) -> None:
        """Add or subtract the counters of a usage."""
        for place, count in enumerate(counts[:USUAL_COUNTERS]):
            if count:
                self.usual[place] += sign * count
        sparse = counts[USUAL_COUNTERS:]
        if sparse != _NOTHING_SPARSE:
            known = self.sparse or [0] * len(sparse)
            self.sparse = [sum_ + sign * (count or 0) for sum_, count in zip(known, sparse, strict=True)]

    def values(self, key: TotalKey) -> tuple[Any, ...]:
        """In the order of PLAIN_SUMS, and of SPARSE_SUMS if one of these is not 0; others of them are NULL."""
        plain = (*key, self.stream_count, *self.usual, self.usd_cents)
        if self.sparse is None and not self.upstream_usd_cents:
            return plain
        sparse = (count or None for count in self.sparse or _NOTHING_SPARSE)
        return (*plain, *sparse, self.upstream_usd_cents or None)


_KEY = f"customer_id, hour, quarter, {', '.join(DIMENSIONS[1:])}"
_PLAIN_LENGTH = 2 + len(DIMENSIONS) + len(PLAIN_SUMS)
_COPY_PLAIN = f"COPY totals_pending ({_KEY}, {', '.join(PLAIN_SUMS)}) FROM STDIN"
_COPY_PENDING = f"COPY totals_pending ({_KEY}, {', '.join((*PLAIN_SUMS, *SPARSE_SUMS))}) FROM STDIN"


def add_to_totals(connection: Connection, changes: Iterable[BillChange]) -> None:
    """Subtract each bill `before` from its quarter of an hour, and add the bill `after` to its own."""
    sums: dict[TotalKey, _Sum] = {}
    for change in changes:
        for bill, sign in ((change.before, -1), (change.after, 1)):
            if bill is not None:
                _add(sums, change.customer_id, bill, sign)
    plain: list[tuple[Any, ...]] = []
    others: list[tuple[Any, ...]] = []
    for key, total in sums.items():
        values = total.values(key)
        (plain if len(values) == _PLAIN_LENGTH else others).append(values)
    if plain:
        copy_rows(connection, _COPY_PLAIN, plain)
    if others:
        copy_rows(connection, _COPY_PENDING, others)


def total_dimensions(bill: Bill | None) -> dict[str, str]:
    """The dimensions under which totals count an amount that belongs to this bill, or to no bill."""
    if bill is None:
        return {**dict.fromkeys(DIMENSIONS[1:], ""), "retry": NO_RETRY}
    return dict(zip(DIMENSIONS[1:], _dimensions(bill), strict=True))


def add_amount_to_totals(
    connection: Connection, *, customer_id: str, at: datetime, dimensions: Mapping[str, str], usd_cents: Decimal
) -> None:
    """Add an amount that is not in a bill: it counts no stream and no usage."""
    values = [dimensions[name] for name in DIMENSIONS[1:]]
    row = (customer_id, *_quarter(at), *values, 0, *[0] * USUAL_COUNTERS, usd_cents)
    copy_rows(connection, _COPY_PLAIN, [row])


def _quarter(at: datetime) -> tuple[str, int]:
    """The hour of a time, and the number of its quarter."""
    utc = at.astimezone(UTC)
    return _hour_of(utc.year, utc.month, utc.day, utc.hour), utc.minute // QUARTER_MINUTES


@lru_cache
def _hour_of(year: int, month: int, day: int, hour: int) -> str:
    return moment(datetime(year, month, day, hour, tzinfo=UTC))


def _dimensions(bill: Bill) -> tuple[str, str, str, str, str, str, str]:
    return (
        bill.provider,
        bill.model,
        bill.api_key_id or "",
        bill.outcome.value,
        bill.usage_source.value,
        RETRY if bill.retry_of else NO_RETRY,
        bill.inlet.value,
    )


def _add(sums: dict[TotalKey, _Sum], customer_id: str, bill: Bill, sign: int) -> None:
    key: TotalKey = (customer_id, *_quarter(bill.ended_at), *_dimensions(bill))
    total = sums.get(key)
    if total is None:
        total = sums[key] = _Sum(0, [0] * USUAL_COUNTERS, ZERO)
    total.stream_count += sign
    total.count(bill.usage.counts(), sign)
    # The operators + and - would round to the 28 digits of the default context.
    add_or_subtract = EXACT.add if sign > 0 else EXACT.subtract
    total.usd_cents = add_or_subtract(total.usd_cents, bill.usd_cents)
    if bill.upstream_usd_cents:
        total.upstream_usd_cents = add_or_subtract(total.upstream_usd_cents, bill.upstream_usd_cents)


def _add_to(rollup: Rollup, taken: str) -> str:
    columns = {"day": "date_trunc('day', hour)", "month": "date_trunc('month', hour)"}
    if rollup is QUARTERED:
        columns["hour"] = "CASE WHEN quarter IS NULL THEN hour ELSE hour + interval '1 microsecond' END"
    if rollup is QUARTERLY_BY_MODEL:
        columns["quarter"], taken = START_OF_QUARTER, f"{taken} WHERE quarter IS NOT NULL"
    key = ", ".join(rollup.key)
    return f"""
        INSERT INTO {rollup.table} AS t ({key}, {", ".join(SUMS)})
        SELECT {", ".join(columns.get(name, name) for name in rollup.key)}, {", ".join(f"sum({n})" for n in SUMS)}
        FROM {taken} GROUP BY {", ".join(str(place + 1) for place in range(len(rollup.key)))}
        ORDER BY {", ".join(str(place + 1) for place in range(len(rollup.key)))}
        ON CONFLICT ({key}) DO UPDATE SET {", ".join(map(_added, SUMS))}
    """


def _added(name: str) -> str:
    if name not in SPARSE_SUMS:
        return f"{name} = t.{name} + excluded.{name}"
    new = f"excluded.{name}"
    return f"{name} = CASE WHEN {new} IS NULL THEN t.{name} ELSE coalesce(t.{name}, 0) + {new} END"


_ROLL_UP = text(
    f"""
    WITH taken AS (DELETE FROM totals_pending RETURNING *),
    {", ".join(f"into_{each.table} AS ({_add_to(each, 'taken')})" for each in (*ROLLUPS, QUARTERLY_BY_MODEL))},
    noted AS (
        INSERT INTO totals_rolled_up AS t (is_last, rolled_up_at, keyed_at) VALUES (true, now(), now())
        ON CONFLICT (is_last) DO UPDATE SET rolled_up_at = excluded.rolled_up_at,
            keyed_at = CASE WHEN t.keyed_at = t.rolled_up_at THEN excluded.keyed_at ELSE t.keyed_at END
    )
    SELECT count(*) FROM taken
    """
)


def roll_up_totals(engine: Engine) -> int:
    """Move the pending rows into the sums by hour, day and month; return how many rows were pending.

    Does nothing and returns 0 while another process rolls up.
    """
    with transaction(engine) as connection:
        if not try_to_take(connection, Lock.ROLL_UP):
            return 0
        moved: int = connection.execute(_ROLL_UP).scalar_one()
    return moved
