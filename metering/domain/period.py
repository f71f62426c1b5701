"""A billing period: one calendar month in the customer's time zone, half-open."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True, order=True)
class BillingPeriod:
    """A month; `str()` gives it as `2026-10`."""

    year: int
    month: int

    @classmethod
    def containing(cls, *, at: datetime, time_zone: ZoneInfo) -> "BillingPeriod":
        """The period in which a moment falls, by that customer's calendar."""
        local = at.astimezone(time_zone)
        return cls(local.year, local.month)

    def __str__(self) -> str:
        return _text(self.year, self.month)


@lru_cache
def _text(year: int, month: int) -> str:
    return f"{year:04d}-{month:02d}"
