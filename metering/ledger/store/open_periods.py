"""Open periods: the month that a booking belongs to, and the lock that keeps bookings out of a month being closed.

Bookings share an advisory lock. Closing first marks its customers, then takes the lock exclusively for a moment.
By then every booking that did not see the mark has committed, and every later one sees it. Row locks on customers
would starve closing instead: PostgreSQL grants new shared row locks before a waiting exclusive one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.db.locks import Lock, share, take

_CUSTOMERS = text(
    "SELECT customer_id, time_zone, closed_through FROM customers WHERE customer_id = ANY(:customer_ids)"
)


@dataclass(frozen=True, slots=True)
class OpenPeriods:
    """The customers that this transaction may book for, with their time zone and last closed month."""

    _customers: dict[str, tuple[ZoneInfo, BillingPeriod | None]]

    def __contains__(self, customer_id: str) -> bool:
        return customer_id in self._customers

    def period(self, *, customer_id: str, at: datetime) -> str:
        """The month, such as `2026-10`, that an entry at `at` belongs to: its own, or the first open one after."""
        time_zone, closed_through = self._customers[customer_id]
        period = BillingPeriod.containing(at=at, time_zone=time_zone)
        if closed_through is not None and period <= closed_through:
            return str(closed_through.next)
        return str(period)


def lock_open_periods(connection: Connection, customer_ids: Iterable[str]) -> OpenPeriods:
    """Keep the open months of these customers open until the transaction ends. Unknown customers are left out."""
    share(connection, Lock.BOOKING)
    # A separate statement, to see what was committed while the lock was waited for.
    rows = connection.execute(_CUSTOMERS, {"customer_ids": list(set(customer_ids))})
    return OpenPeriods(
        {
            row.customer_id: (
                ZoneInfo(row.time_zone),
                BillingPeriod.parse(row.closed_through) if row.closed_through else None,
            )
            for row in rows
        }
    )


def wait_for_bookings(engine: Engine) -> None:
    """Wait until every booking transaction that is in progress now has ended."""
    with transaction(engine) as connection:
        take(connection, Lock.BOOKING)
