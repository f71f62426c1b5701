"""Windows: the ranges of time in which each threshold of an alert fires at most once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from metering.core.period import BillingPeriod

# A month is still evaluated for this long after its end: streams that ended in it may be finalized later.
_MONTH_EVALUATED_FOR = timedelta(days=1)
# A day counts as complete this long after its end: its silent streams have been swept by then.
_DAY_COMPLETE_AFTER = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A half-open range in UTC; `key` names it, such as `2026-11` or `2026-11-23`."""

    key: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWindow:
    """A window that no time ends, such as all time, or until a customer's next grant."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DayWindow:
    """A day to compare with the days before it. Only a complete day can be found to have fallen."""

    window: Window
    complete: bool
    day: date
    time_zone: ZoneInfo

    def midnight_before(self, days: int) -> datetime:
        """The start of the day this many days before it."""
        return _midnight(self.day - days * _DAY, self.time_zone)


def month_windows(*, now: datetime, time_zone: ZoneInfo) -> Sequence[tuple[BillingPeriod, Window]]:
    """The current month, and for a day after its end also the month before it."""
    months = {BillingPeriod.containing(at=at, time_zone=time_zone) for at in (now - _MONTH_EVALUATED_FOR, now)}
    return [
        (
            month,
            Window(
                key=str(month),
                starts_at=month.start(time_zone=time_zone).astimezone(UTC),
                ends_at=month.next.start(time_zone=time_zone).astimezone(UTC),
            ),
        )
        for month in sorted(months)
    ]


def day_windows(*, now: datetime, time_zone: ZoneInfo) -> Sequence[DayWindow]:
    """Yesterday and today."""
    today = now.astimezone(time_zone).date()
    windows = []
    for day in (today - _DAY, today):
        starts_at, ends_at = _midnight(day, time_zone), _midnight(day + _DAY, time_zone)
        window = Window(key=day.isoformat(), starts_at=starts_at, ends_at=ends_at)
        complete = now >= ends_at + _DAY_COMPLETE_AFTER
        windows.append(DayWindow(window=window, complete=complete, day=day, time_zone=time_zone))
    return windows


def _midnight(day: date, time_zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=time_zone).astimezone(UTC)
