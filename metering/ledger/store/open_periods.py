"""Which months are closed, for whoever books; and the barrier by which closing knows that nobody books to them.

Bookings share an advisory lock. Closing first marks its customers, then takes the lock alone for a moment: whoever
booked by what was true before the mark is done then, and whoever comes later sees it. Locking customers' rows
instead would starve closing: PostgreSQL lets new readers of a shared row lock go before a waiting writer.
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
    """The customers that this transaction may book for, and through which month each is closed."""

    _customers: dict[str, tuple[ZoneInfo, BillingPeriod | None]]

    def __contains__(self, customer_id: str) -> bool:
        return customer_id in self._customers

    def period(self, *, customer_id: str, at: datetime) -> str:
        """The month that a booking of that moment belongs to: its own, or the first after it that is open."""
        time_zone, closed_through = self._customers[customer_id]
        period = BillingPeriod.containing(at=at, time_zone=time_zone)
        if closed_through is not None and period <= closed_through:
            return str(closed_through.next)
        return str(period)


def lock_open_periods(connection: Connection, customer_ids: Iterable[str]) -> OpenPeriods:
    """Keep what is open now from being closed until the transaction ends; unknown customers are left out."""
    share(connection, Lock.BOOKING)
    # A statement of its own: it must see what was committed while waiting for the lock.
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
    """Return when every booking that began before now is done."""
    with transaction(engine) as connection:
        take(connection, Lock.BOOKING)
