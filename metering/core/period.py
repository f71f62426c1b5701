"""A billing period: one calendar month in the customer's time zone, half-open."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from metering.core.errors import MeteringError

PERIOD_PATTERN = "((?:19[7-9]|2[0-9][0-9])[0-9])-(0[1-9]|1[0-2])"
_PERIOD = re.compile(PERIOD_PATTERN)
_UTC = ZoneInfo("UTC")
# A month starts at different times in different time zones, each less than this from its start in UTC.
_MAX_OFFSET = timedelta(days=1)


class InvalidPeriodError(MeteringError):
    """The text is not a month such as 2026-10."""


@dataclass(frozen=True, slots=True, order=True)
class BillingPeriod:
    """A calendar month; `str()` gives `2026-10`."""

    year: int
    month: int

    @classmethod
    def containing(cls, *, at: datetime, time_zone: ZoneInfo) -> "BillingPeriod":
        """The month that contains the time `at` in the customer's time zone."""
        local = at.astimezone(time_zone)
        return _period(local.year, local.month)

    @classmethod
    def parse(cls, text: str) -> "BillingPeriod":
        """Parse a month such as `2026-10`.

        Raises:
            InvalidPeriodError: the text is not a month.
        """
        found = _PERIOD.fullmatch(text)
        if found is None:
            raise InvalidPeriodError(f"period: expected a month such as 2026-10, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    @property
    def next(self) -> "BillingPeriod":
        """The following month."""
        return BillingPeriod(self.year + 1, 1) if self.month == 12 else BillingPeriod(self.year, self.month + 1)

    @property
    def previous(self) -> "BillingPeriod":
        """The preceding month."""
        return BillingPeriod(self.year - 1, 12) if self.month == 1 else BillingPeriod(self.year, self.month - 1)

    @property
    def in_any_zone(self) -> tuple[datetime, datetime]:
        """A range of times (half-open) that contains the month in every time zone."""
        return self.start(time_zone=_UTC) - _MAX_OFFSET, self.next.start(time_zone=_UTC) + _MAX_OFFSET

    def start(self, *, time_zone: ZoneInfo) -> datetime:
        """When the month starts in this time zone. It ends when the next month starts."""
        return datetime(self.year, self.month, 1, tzinfo=time_zone)

    def bounds(self, *, time_zone: ZoneInfo, closed_until: datetime | None) -> tuple[datetime, datetime]:
        """Start and end (exclusive) of the month, for a customer whose last closed month ended at `closed_until`.

        If that was the preceding month, this one starts where it ended: the time zone may have changed since.
        """
        start, end = self.start(time_zone=time_zone), self.next.start(time_zone=time_zone)
        if closed_until is not None and closed_until < end and abs(closed_until - start) <= 2 * _MAX_OFFSET:
            return closed_until, end
        return start, end

    def __str__(self) -> str:
        return _text(self.year, self.month)


def day_bounds(day: date, *, time_zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Start and end (exclusive) of a day, in UTC. A day on which the clocks change does not have 24 hours."""
    starts, ends = (datetime.combine(each, time(), tzinfo=time_zone) for each in (day, day + timedelta(days=1)))
    return starts.astimezone(UTC), ends.astimezone(UTC)


@lru_cache
def _period(year: int, month: int) -> BillingPeriod:
    return BillingPeriod(year, month)


@lru_cache
def _text(year: int, month: int) -> str:
    return f"{year:04d}-{month:02d}"
