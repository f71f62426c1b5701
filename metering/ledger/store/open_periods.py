"""Open periods: the month that a booking belongs to, and the lock that keeps bookings out of a month being closed.

Bookings share an advisory lock. Closing first marks its customers, then takes the lock exclusively for a moment.
By then every booking that did not see the mark has committed, and every later one sees it. Row locks on customers
would starve closing instead: PostgreSQL grants new shared row locks before a waiting exclusive one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from metering.core.errors import MeteringError
from metering.core.period import BillingPeriod
from metering.core.time_zones import FURTHEST_ZONES, find_zone
from metering.db.citus import wait_for_prepared
from metering.db.engine import transaction
from metering.db.locks import Lock, share, take

_CUSTOMERS = text(
    "SELECT customer_id, time_zone, closed_through FROM customers WHERE customer_id = ANY(:customer_ids)"
)


class UnusableTimeZoneError(MeteringError):
    """The customer's time zone is unusable, and its month at this time is not the same in every zone."""


class OpenCustomer(NamedTuple):
    """A customer's zone by name, the zones that this may mean, and its first month that may still be booked."""

    time_zone: str
    zones: tuple[ZoneInfo, ...]
    first_open: BillingPeriod | None  # None: no month is closed

    def month(self, at: datetime, zone: ZoneInfo) -> BillingPeriod:
        month = BillingPeriod.containing(at=at, time_zone=zone)
        return month if self.first_open is None or month >= self.first_open else self.first_open


@dataclass(frozen=True, slots=True)
class OpenPeriods:
    """The customers that this transaction may book for."""

    _customers: dict[str, OpenCustomer]

    def __contains__(self, customer_id: str) -> bool:
        return customer_id in self._customers

    def period(self, *, customer_id: str, at: datetime) -> str:
        """The month, such as `2026-10`, that an entry at `at` belongs to: its own, or the first open one after.

        Raises:
            UnusableTimeZoneError: it is not known which month that is.
        """
        found = self.find_period(customer_id=customer_id, at=at)
        if found is None:
            time_zone = self._customers[customer_id].time_zone
            raise UnusableTimeZoneError(
                f"the time zone {time_zone!r} of customer {customer_id!r} is unusable, and {at:%Y-%m-%d %H:%M} UTC"
                " is near the end of a month: set another time zone first"
            )
        return found

    def find_period(self, *, customer_id: str, at: datetime) -> str | None:
        """The same; None when the customer's time zone is unusable and the month depends on it."""
        customer = self._customers[customer_id]
        month, *others = [customer.month(at, zone) for zone in customer.zones]
        return str(month) if all(other == month for other in others) else None


def lock_open_periods(connection: Connection, customer_ids: Iterable[str]) -> OpenPeriods:
    """Keep the open months of these customers open until the transaction ends. Unknown customers are left out."""
    share(connection, Lock.BOOKING)
    # A separate statement, to see what was committed while the lock was waited for.
    rows = connection.execute(_CUSTOMERS, {"customer_ids": list(set(customer_ids))})
    return OpenPeriods({row.customer_id: open_customer(row.time_zone, row.closed_through) for row in rows})


def open_customer(time_zone: str, closed_through: str | None) -> OpenCustomer:
    """A customer with the time zone of this name, whose months up to `closed_through` are closed."""
    zone = find_zone(time_zone)
    first_open = BillingPeriod.parse(closed_through).next if closed_through else None
    return OpenCustomer(time_zone, FURTHEST_ZONES if zone is None else (zone,), first_open)


def wait_for_bookings(engine: Engine) -> None:
    """Wait until every booking transaction that is in progress now has ended.

    Raises:
        DatabaseUnavailableError: a node of Citus does not answer, or has not finished transactions.
    """
    with transaction(engine) as connection:
        take(connection, Lock.BOOKING)
    wait_for_prepared(engine)
