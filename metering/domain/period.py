"""A billing period: one calendar month in the customer's time zone, half-open."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from metering.domain.errors import MeteringError

_PERIOD = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class InvalidPeriodError(MeteringError):
    """Not a month; periods are written like 2026-10."""

    def __init__(self, text: str) -> None:
        super().__init__(f"period: expected a month such as 2026-10, got {text!r}")


@dataclass(frozen=True, slots=True, order=True)
class BillingPeriod:
    """A month; `str()` gives it as `2026-10`."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> "BillingPeriod":
        """The period written as `YYYY-MM`.

        Raises:
            InvalidPeriodError: it is not written so.
        """
        match = _PERIOD.fullmatch(text)
        if match is None:
            raise InvalidPeriodError(text)
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def containing(cls, *, at: datetime, time_zone: ZoneInfo) -> "BillingPeriod":
        """The period in which a moment falls, by that customer's calendar."""
        local = at.astimezone(time_zone)
        return cls(local.year, local.month)

    def following(self) -> "BillingPeriod":
        """The month after this one."""
        return BillingPeriod(self.year + self.month // 12, self.month % 12 + 1)

    def bounds(self, *, time_zone: ZoneInfo) -> tuple[datetime, datetime]:
        """First moment in and first moment after, in UTC."""
        after = self.following()
        return (
            datetime(self.year, self.month, 1, tzinfo=time_zone).astimezone(UTC),
            datetime(after.year, after.month, 1, tzinfo=time_zone).astimezone(UTC),
        )

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"
