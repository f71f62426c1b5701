"""Windows: the stretches of time in each of which an alert tells once; then it is armed again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from metering.core.period import BillingPeriod

# A month is looked at for so long after its end: what ended in it may settle later.
_MONTH_LINGERS = timedelta(days=1)
# A day is complete so long after its end: streams that fell silent in it have been swept by then.
_DAY_SETTLES = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A half-open stretch of somebody's calendar, in UTC; `key` names it, such as `2026-11` or `2026-11-23`."""

    key: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DayWindow:
    """A day to compare with those before it. Only a complete one can have come to too little."""

    window: Window
    complete: bool
    day: date
    time_zone: ZoneInfo

    def midnight_before(self, days_before: int) -> datetime:
        """Midnight so many days before it."""
        return _midnight(self.day - days_before * _DAY, self.time_zone)


def month_windows(*, now: datetime, time_zone: ZoneInfo) -> Sequence[tuple[BillingPeriod, Window]]:
    """The month of now, and for a day after its end the month before it."""
    months = {BillingPeriod.containing(at=at, time_zone=time_zone) for at in (now - _MONTH_LINGERS, now)}
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
        complete = now >= ends_at + _DAY_SETTLES
        windows.append(DayWindow(window=window, complete=complete, day=day, time_zone=time_zone))
    return windows


def _midnight(day: date, time_zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=time_zone).astimezone(UTC)
