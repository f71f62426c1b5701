"""Windows: the part of each day, or of some days of the week, in which a rate applies."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import StrEnum


class Weekday(StrEnum):
    """A day of the week in UTC, in the order of the week."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_WEEK = tuple(Weekday)
_DAY = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True, order=True)
class DailyWindow:
    """A time of each of its days, in UTC and half-open.

    Without `weekdays` it opens every day. A window that ends at or before its start spans midnight, and belongs to
    the day on which it opens: 23:00-02:00 on Friday contains Saturday 01:00, and not Friday 01:00.
    """

    start: time
    end: time
    weekdays: tuple[Weekday, ...] = ()

    def __post_init__(self) -> None:
        days = () if set(self.weekdays) == set(_WEEK) else self.weekdays
        object.__setattr__(self, "weekdays", tuple(sorted(set(days), key=_WEEK.index)))

    def contains(self, at: datetime) -> bool:
        """Whether the time `at` is in the window."""
        moment = at.astimezone(UTC)
        clock, today = moment.time(), moment.weekday()
        if self.start < self.end:
            return self.start <= clock < self.end and self._opens_on(today)
        return self._opens_on(today) if clock >= self.start else clock < self.end and self._opens_on(today - 1)

    def meets(self, other: "DailyWindow") -> bool:
        """Whether some time is in both windows."""
        return any(
            start < other_end + shift and other_start + shift < end
            for start, end in self._spans()
            for other_start, other_end in other._spans()
            for shift in (-7 * _DAY, 0, 7 * _DAY)
        )

    def _opens_on(self, day: int) -> bool:
        return not self.weekdays or _WEEK[day] in self.weekdays

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Start and end of each opening, in microseconds since Monday 00:00; the last may end in the next week."""
        start, end = _since_midnight(self.start), _since_midnight(self.end)
        for weekday in self.weekdays or _WEEK:
            midnight = _WEEK.index(weekday) * _DAY
            yield midnight + start, midnight + end + (_DAY if end <= start else 0)


def _since_midnight(clock: time) -> int:
    return ((clock.hour * 60 + clock.minute) * 60 + clock.second) * 1_000_000 + clock.microsecond
