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
from metering.ledger.rollups import DIMENSIONS, ROLLUPS, SPARSE_SUMS, SUMS, Rollup
from metering.streams.bill import Bill
from metering.streams.retries import NO_RETRY, RETRY

# (customer_id, hour, provider, model, api_key_id, outcome, usage_source, retry).
TotalKey = tuple[str, str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class BillChange:
    """A stream's newest bill before and after a booking; None for no bill."""

    customer_id: str
    before: Bill | None
    after: Bill | None


@dataclass(slots=True)
class _Sum:
    stream_count: int
    counters: list[Quantity]
    usd_cents: Decimal
    upstream_usd_cents: Decimal = ZERO

    def values(self) -> tuple[Any, ...]:
        """In the order of SUMS; what is 0 and sparse is NULL."""
        sparse = (count or None for count in self.counters[USUAL_COUNTERS:])
        return (
            self.stream_count,
            *self.counters[:USUAL_COUNTERS],
            *sparse,
            self.usd_cents,
            self.upstream_usd_cents or None,
        )


_COPY_PENDING = f"""
COPY totals_pending (customer_id, hour, {", ".join(DIMENSIONS[1:])}, {", ".join(SUMS)}) FROM STDIN
"""


def add_to_totals(connection: Connection, changes: Iterable[BillChange]) -> None:
    """Subtract each bill `before` from its hour and add the bill `after` to its hour."""
    sums: dict[TotalKey, _Sum] = {}
    for change in changes:
        for bill, sign in ((change.before, -1), (change.after, 1)):
            if bill is not None:
                _add(sums, change.customer_id, bill, sign)
    rows = ((*key, *total.values()) for key, total in sums.items())
    copy_rows(connection, _COPY_PENDING, rows)


def total_dimensions(bill: Bill | None) -> dict[str, str]:
    """The dimensions under which totals count an amount that belongs to this bill, or to no bill."""
    if bill is None:
        return {**dict.fromkeys(DIMENSIONS[1:-1], ""), "retry": NO_RETRY}
    return dict(zip(DIMENSIONS[1:], _dimensions(bill), strict=True))


def add_amount_to_totals(
    connection: Connection, *, customer_id: str, at: datetime, dimensions: Mapping[str, str], usd_cents: Decimal
) -> None:
    """Add an amount that is not in a bill: it counts no stream and no usage."""
    values = [dimensions[name] for name in DIMENSIONS[1:]]
    amount = _Sum(0, [0] * len(COUNTERS), usd_cents)
    copy_rows(connection, _COPY_PENDING, [(customer_id, _hour(at), *values, *amount.values())])


def _hour(at: datetime) -> str:
    utc = at.astimezone(UTC)
    return _hour_of(utc.year, utc.month, utc.day, utc.hour)


@lru_cache
def _hour_of(year: int, month: int, day: int, hour: int) -> str:
    return moment(datetime(year, month, day, hour, tzinfo=UTC))


def _dimensions(bill: Bill) -> tuple[str, str, str, str, str, str]:
    return (
        bill.provider,
        bill.model,
        bill.api_key_id or "",
        bill.outcome.value,
        bill.usage_source.value,
        RETRY if bill.retry_of else NO_RETRY,
    )


def _add(sums: dict[TotalKey, _Sum], customer_id: str, bill: Bill, sign: int) -> None:
    key: TotalKey = (customer_id, _hour(bill.ended_at), *_dimensions(bill))
    total = sums.get(key)
    if total is None:
        total = sums[key] = _Sum(0, [0] * len(COUNTERS), ZERO)
    total.stream_count += sign
    for place, count in enumerate(bill.usage.counts()):
        if count:
            total.counters[place] += sign * count
    # The operators + and - would round to the 28 digits of the default context.
    add_or_subtract = EXACT.add if sign > 0 else EXACT.subtract
    total.usd_cents = add_or_subtract(total.usd_cents, bill.usd_cents)
    if bill.upstream_usd_cents:
        total.upstream_usd_cents = add_or_subtract(total.upstream_usd_cents, bill.upstream_usd_cents)


def _add_to(rollup: Rollup, taken: str) -> str:
    columns = {"day": "date_trunc('day', hour)", "month": "date_trunc('month', hour)"}
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
    {", ".join(f"into_{rollup.table} AS ({_add_to(rollup, 'taken')})" for rollup in ROLLUPS)},
    noted AS (
        INSERT INTO totals_rolled_up (is_last, rolled_up_at) VALUES (true, now())
        ON CONFLICT (is_last) DO UPDATE SET rolled_up_at = excluded.rolled_up_at
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
