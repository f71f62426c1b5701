"""Hourly totals: exact sums of the newest bills, kept in the transaction that books."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Connection

from metering.domain.ledger import Bill
from metering.domain.money import EXACT, ZERO
from metering.domain.usage import COUNTERS

# (customer_id, hour, provider, model, api_key_id, outcome, usage_source), as in the table's primary key.
TotalKey = tuple[str, datetime, str, str, str, str, str]

_ADD = f"""
INSERT INTO totals_hourly AS t
SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                     %s::bigint[], {", ".join("%s::numeric[]" for _ in COUNTERS)}, %s::numeric[])
    AS added (customer_id, hour, provider, model, api_key_id, outcome, usage_source, stream_count,
              {", ".join(COUNTERS)}, usd_cents)
ORDER BY customer_id, hour, provider, model, api_key_id, outcome, usage_source
ON CONFLICT (customer_id, hour, provider, model, api_key_id, outcome, usage_source) DO UPDATE SET
    {", ".join(f"{name} = t.{name} + excluded.{name}" for name in ("stream_count", *COUNTERS, "usd_cents"))}
"""


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
    keys = [list(column) for column in zip(*sums, strict=True)]
    counters = [list(column) for column in zip(*(total.counters for total in sums.values()), strict=True)]
    counts = [total.stream_count for total in sums.values()]
    cents = [total.usd_cents for total in sums.values()]
    connection.exec_driver_sql(_ADD, (*keys, counts, *counters, cents))


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
    for place, counter in enumerate(COUNTERS):
        total.counters[place] += sign * (getattr(bill.usage, counter) or 0)
    # Not `sign * amount`: an operator would round to the default context's 28 digits.
    total.usd_cents = EXACT.add(total.usd_cents, EXACT.multiply(Decimal(sign), bill.usd_cents))
