"""A billing period: one calendar month in the customer's time zone, half-open."""

from dataclasses import dataclass
from datetime import datetime
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
        return f"{self.year:04d}-{self.month:02d}"
