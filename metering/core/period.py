"""A billing period: one calendar month in the customer's time zone, half-open."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from metering.core.errors import MeteringError

_PERIOD = re.compile(r"((?:19[7-9]|2\d\d)\d)-(0[1-9]|1[0-2])")


_UTC = ZoneInfo("UTC")
# A month begins and ends at other moments in other time zones, by less than this.
_ZONES = timedelta(days=1)


class InvalidPeriodError(MeteringError):
    """A text that names no month."""


@dataclass(frozen=True, slots=True, order=True)
class BillingPeriod:
    """A month; `str()` gives it as `2026-10`."""

    year: int
    month: int

    @classmethod
    def containing(cls, *, at: datetime, time_zone: ZoneInfo) -> "BillingPeriod":
        """The period in which a moment falls, by that customer's calendar."""
        local = at.astimezone(time_zone)
        return _period(local.year, local.month)

    @classmethod
    def parse(cls, text: str) -> "BillingPeriod":
        """The period that a text such as `2026-10` names.

        Raises:
            InvalidPeriodError: it names none.
        """
        found = _PERIOD.fullmatch(text)
        if found is None:
            raise InvalidPeriodError(f"period: expected a month such as 2026-10, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    @property
    def next(self) -> "BillingPeriod":
        """The month after it."""
        return BillingPeriod(self.year + 1, 1) if self.month == 12 else BillingPeriod(self.year, self.month + 1)

    @property
    def previous(self) -> "BillingPeriod":
        """The month before it."""
        return BillingPeriod(self.year - 1, 12) if self.month == 1 else BillingPeriod(self.year, self.month - 1)

    @property
    def in_any_zone(self) -> tuple[datetime, datetime]:
        """Moments, half-open, between which it lies whatever the time zone."""
        return self.start(time_zone=_UTC) - _ZONES, self.next.start(time_zone=_UTC) + _ZONES

    def start(self, *, time_zone: ZoneInfo) -> datetime:
        """Its first moment by that calendar; its end is the start of the next."""
        return datetime(self.year, self.month, 1, tzinfo=time_zone)

    def bounds(self, *, time_zone: ZoneInfo, closed_until: datetime | None) -> tuple[datetime, datetime]:
        """Its first moment and its end, half-open, of a customer whose last closed month ended then.

        It begins where the one before ended, which may have been by another time zone.
        """
        start, end = self.start(time_zone=time_zone), self.next.start(time_zone=time_zone)
        if closed_until is not None and closed_until < end and abs(closed_until - start) <= 2 * _ZONES:
            return closed_until, end
        return start, end

    def __str__(self) -> str:
        return _text(self.year, self.month)


def day_bounds(day: date, *, time_zone: ZoneInfo) -> tuple[datetime, datetime]:
    """A day's first moment and its end, half-open, in UTC; it has other than 24 hours where clocks are changed."""
    starts, ends = (datetime.combine(each, time(), tzinfo=time_zone) for each in (day, day + timedelta(days=1)))
    return starts.astimezone(UTC), ends.astimezone(UTC)


@lru_cache
def _period(year: int, month: int) -> BillingPeriod:
    return BillingPeriod(year, month)


@lru_cache
def _text(year: int, month: int) -> str:
    return f"{year:04d}-{month:02d}"
