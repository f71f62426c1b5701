"""The range that a page shows, as people choose it: a month, some days up to today, or any days.

Days are dates; the last one is in the range. Addresses of earlier releases go on working: `month` (or `period`),
and on the page of streams `from` and `to`, a half-open range of times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from metering.core.period import BillingPeriod, day_bounds
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.page_request import PageRequest
from metering.totals.ranges import Range

# A year and a bit: totals of more days take long.
_MAX_DAYS = 400
# The query parameters that choose a range.
PARAMETERS = ("range", "first", "last", "month", "period", "from", "to")


class Preset(StrEnum):
    """A range that follows today."""

    TODAY = "today"
    WEEK = "7d"
    THIRTY = "30d"
    THIS_MONTH = "month"
    LAST_MONTH = "last-month"


class Compare(StrEnum):
    """What a range is compared with."""

    BEFORE = "before"
    MONTH = "month"
    NONE = "none"


_TITLES = {
    Preset.TODAY: "Today",
    Preset.WEEK: "Last 7 days",
    Preset.THIRTY: "Last 30 days",
    Preset.THIS_MONTH: "This month",
    Preset.LAST_MONTH: "Last month",
}
_DAYS = {Preset.TODAY: 1, Preset.WEEK: 7, Preset.THIRTY: 30}


@dataclass(frozen=True, slots=True)
class Days:
    """Days from the first to the last, both included."""

    first: date
    last: date

    @property
    def count(self) -> int:
        """How many days."""
        return (self.last - self.first).days + 1

    @property
    def title(self) -> str:
        """The days as text."""
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"

    def bounds(self, zone: ZoneInfo) -> Range:
        """From the start of the first day to the end of the last, in UTC."""
        return day_bounds(self.first, time_zone=zone)[0], day_bounds(self.last, time_zone=zone)[1]

    @property
    def before(self) -> "Days":
        """As many days just before."""
        length = timedelta(days=self.count)
        return Days(self.first - length, self.last - length)

    @property
    def month_earlier(self) -> "Days":
        """As many days from the same day of the month before on, or from its last day."""
        first = _month_earlier(self.first)
        return Days(first, first + timedelta(days=self.count - 1))


def requested_span(request: PageRequest, *, zone: ZoneInfo) -> Days | BillingPeriod:
    """The days or the month that a request asks for, by the calendar of `zone`; by default the current month.

    Raises:
        InvalidPeriodError: the month is none.
        InvalidFilterError: the days are none, too many, or have not begun.
    """
    today = request.now.astimezone(zone).date()
    this_month = BillingPeriod.containing(at=request.now, time_zone=zone)
    first, last = _day(request, "first"), _day(request, "last")
    if first or last:
        last = last or today
        return _checked(Days(first or last.replace(day=1), last), today)
    preset = request.one_of("range", tuple(Preset))
    if preset in _DAYS:
        return Days(today - timedelta(days=_DAYS[Preset(preset)] - 1), today)
    if preset is not None:
        return this_month if preset == Preset.THIS_MONTH else this_month.previous
    given = request.text("month") or request.text("period")
    return BillingPeriod.parse(given) if given else this_month


def asks_for_days(request: PageRequest) -> bool:
    """Whether the request asks for days, not for a month."""
    return bool(request.text("first") or request.text("last") or request.text("range") in _DAYS)


def _day(request: PageRequest, name: str) -> date | None:
    given = request.text(name)
    if given is None:
        return None
    try:
        found = date.fromisoformat(given)
    except ValueError as error:
        raise InvalidFilterError(f"{name}: expected a date such as 2026-11-23, got {given!r}") from error
    if not 1970 <= found.year <= 9000:
        raise InvalidFilterError(f"{name}: expected a date from 1970 on, got {given!r}")
    return found


def _checked(days: Days, today: date) -> Days:
    if days.last < days.first:
        raise InvalidFilterError(f"first: {days.first} is after the last day, {days.last}")
    if days.first > today + timedelta(days=1):
        raise InvalidFilterError(f"first: {days.first} has not begun")
    if days.count > _MAX_DAYS:
        raise InvalidFilterError(f"first: at most {_MAX_DAYS} days, {days.title} are {days.count}")
    return days


def _month_earlier(day: date) -> date:
    end = day.replace(day=1) - timedelta(days=1)
    return end.replace(day=min(day.day, end.day))


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of a menu: its title, the query that makes it, and whether it is made."""

    title: str
    query: Mapping[str, str]
    made: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeMenu:
    """The range button: what it shows, and what it offers. `kept` are the filters that stay beside the days.

    `compares` is empty where a page compares nothing. `earlier` and `later` are the months beside a month.
    """

    label: str
    presets: Sequence[Choice]
    first: date
    last: date
    today: date
    kept: Mapping[str, str]
    compares: Sequence[Choice] = ()
    earlier: Mapping[str, str] | None = None
    later: Mapping[str, str] | None = None


def range_menu(
    request: PageRequest,
    *,
    shown: Range,
    zone: ZoneInfo,
    month: BillingPeriod | None,
    month_is_over: bool = False,
    compare: Compare | None = None,
) -> RangeMenu:
    """The menu for what a page shows: `month`, or the range `shown`; and what the page compares it with."""
    today = request.now.astimezone(zone).date()
    kept = {name: value for name, value in request.filters.items() if name not in PARAMETERS}
    begin, end = shown[0].astimezone(zone), (shown[1] - timedelta(microseconds=1)).astimezone(zone)
    if month is not None:
        begin, end = (each.start(time_zone=zone) for each in (month, month.next))
        end -= timedelta(microseconds=1)
    days = Days(begin.date(), end.date())
    this_month = BillingPeriod.containing(at=request.now, time_zone=zone)
    spans = {
        **{preset: Days(today - timedelta(days=count - 1), today) for preset, count in _DAYS.items()},
        Preset.THIS_MONTH: this_month,
        Preset.LAST_MONTH: this_month.previous,
    }
    whole = days.bounds(zone) == shown
    current: Days | BillingPeriod | None = month or (days if whole else None)
    preset = next((each for each, span in spans.items() if span == current), None)
    label = f"{month.start(time_zone=zone):%B %Y}" if month else days.title if whole else _times(shown)
    return RangeMenu(
        label=f"{_TITLES[preset]}: {label}" if preset in _DAYS else label,
        presets=[
            Choice(title, {**kept, "range": each.value}, made=each is preset) for each, title in _TITLES.items()
        ],
        first=days.first,
        last=days.last,
        today=today,
        kept=kept,
        compares=_compares(request, compare, is_month=month is not None) if compare else (),
        earlier={**kept, "month": str(month.previous)} if month else None,
        later={**kept, "month": str(month.next)} if month and month_is_over else None,
    )


def _times(shown: Range) -> str:
    first, last = (f"{each.astimezone(UTC):%Y-%m-%d %H:%M}" for each in shown)
    return f"{first} to {last} UTC"


def _compares(request: PageRequest, compare: Compare, *, is_month: bool) -> Sequence[Choice]:
    titles = {Compare.BEFORE: "The days before", Compare.MONTH: "The month before", Compare.NONE: "Nothing"}
    if is_month:
        del titles[Compare.BEFORE]
        compare = Compare.MONTH if compare is Compare.BEFORE else compare
    return [
        Choice(title, {**request.filters, "compare": each.value}, made=each is compare)
        for each, title in titles.items()
    ]


def compared_so_far(shown: Range, compared: Range, now: datetime) -> Range:
    """A range of comparison up to the hour that the shown one has reached, if that is not over."""
    if not shown[0] <= now < shown[1]:
        return compared
    so_far = max(now.replace(minute=0, second=0, microsecond=0) - shown[0], timedelta(hours=1))
    return compared[0], min(compared[0] + so_far, compared[1])
