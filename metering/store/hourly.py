"""Hourly totals: exact sums of the newest bills, kept in the transaction that books."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
from sqlalchemy import Connection

from metering.domain.ledger import Bill
from metering.domain.money import EXACT, ZERO
from metering.domain.usage import COUNTERS

_KEY = ("customer_id", "hour", "provider", "model", "api_key_id", "outcome", "usage_source")
TotalKey = tuple[str, datetime, str, str, str, str, str]

_SUMS = ("stream_count", *COUNTERS, "usd_cents")

_ADD = f"""
INSERT INTO totals_hourly AS t ({", ".join(_KEY)}, {", ".join(_SUMS)})
SELECT * FROM jsonb_to_recordset(%s::jsonb)
    AS added (customer_id text, hour timestamptz, provider text, model text, api_key_id text, outcome text,
              usage_source text, stream_count bigint, {", ".join(f"{name} numeric" for name in _SUMS[1:])})
ORDER BY {", ".join(_KEY)}
ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET
    {", ".join(f"{name} = t.{name} + excluded.{name}" for name in _SUMS)}
"""


_COLUMNS = (*_KEY, *_SUMS)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class BillChange:
    """A stream's newest bill before and after a booking; None where there is none."""

    customer_id: str
    before: Bill | None
    after: Bill | None


@dataclass(slots=True)
class _Sum:
    stream_count: int
    counters: list[int]
    usd_cents: Decimal


def add_to_totals(connection: Connection, changes: Iterable[BillChange]) -> None:
    """Take each bill from before out of its hour and put the one from after into its own."""
    sums: dict[TotalKey, _Sum] = {}
    for change in changes:
        for bill, sign in ((change.before, -1), (change.after, 1)):
            if bill is not None:
                _add(sums, change.customer_id, bill, sign)
    if not sums:
        return
    rows = [
        dict(zip(_COLUMNS, (*key, total.stream_count, *total.counters, total.usd_cents), strict=True))
        for key, total in sums.items()
    ]
    connection.exec_driver_sql(_ADD, (_encode(rows).decode(),))


def _add(sums: dict[TotalKey, _Sum], customer_id: str, bill: Bill, sign: int) -> None:
    hour = bill.ended_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    key: TotalKey = (
        customer_id,
        hour,
        bill.provider,
        bill.model,
        bill.api_key_id or "",
        bill.outcome.value,
        bill.usage_source.value,
    )
    total = sums.setdefault(key, _Sum(0, [0] * len(COUNTERS), ZERO))
    total.stream_count += sign
    for place, count in enumerate(bill.usage.counts()):
        if count:
            total.counters[place] += sign * count
    # Not an operator: that would round to the default context's 28 digits.
    add_or_subtract = EXACT.add if sign > 0 else EXACT.subtract
    total.usd_cents = add_or_subtract(total.usd_cents, bill.usd_cents)
