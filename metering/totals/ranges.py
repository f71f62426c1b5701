"""Splits ranges of time into stretches, each summed from the coarsest table that covers it."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


class Granularity(StrEnum):
    """Length of a row's time bucket. NONE has one bucket for the whole range."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    NONE = "none"


Range = tuple[datetime, datetime]

# The greatest length of each unit.
_QUARTER, _HOUR, _DAY, _MONTH = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1), timedelta(days=31)
_TICK = timedelta(microseconds=1)


def utc_ranges(from_: datetime, to: datetime, granularity: Granularity) -> dict[str, datetime]:
    """The whole hours of a range, the whole days within them, the whole months within those, and the edges.

    Each unit is summed from its own table, except for the stretch that the next larger unit covers.
    """
    hours = _whole(from_, to, _hour, _HOUR)
    if hours is None:  # all within one hour
        hours = (to, to)
        return {**_named(hours, hours, hours), **_edges(from_, to, hours)}
    days = months = None
    if granularity is not Granularity.HOUR:
        days = _whole(*hours, _day, _DAY)
    if days is not None and granularity is not Granularity.DAY:
        months = _whole(*days, _month, _MONTH)
    days = days or (hours[1], hours[1])
    months = months or (days[1], days[1])
    return {**_named(hours, days, months), **_edges(from_, to, hours)}


class Unit(StrEnum):
    """The source that a stretch is summed from. PENDING are sums not rolled up yet, by whole hours.

    A stretch of QUARTERS lies within an hour: it has sums of its own, or is read from the bills as well.
    """

    DAYS = "days"
    HOURS = "hours"
    PENDING = "pending"
    QUARTERS = "quarters"
    BILLS = "bills"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A half-open part of a range. Stretches of the same unit do not touch."""

    unit: Unit
    from_: datetime
    to: datetime


def zoned_stretches(from_: datetime, to: datetime, granularity: Granularity, zone: ZoneInfo) -> list[Stretch]:
    """The stretches of a range by days or months of a time zone; no row lies in two stretches.

    Where a day or month starts within a UTC hour, as in zones offset by half an hour, that hour has quarters.
    """
    stretches: dict[Unit, list[Stretch]] = {unit: [] for unit in Unit}
    for begin, end in _buckets(from_, to, granularity, zone):
        for each in _stretches_of(begin, end):
            before = stretches[each.unit]
            if before and before[-1].to == each.from_ and each.unit is not Unit.QUARTERS:
                before[-1] = Stretch(each.unit, before[-1].from_, each.to)
            elif each.from_ < each.to:
                before.append(each)
    return [each for found in stretches.values() for each in found]


def bucket_starts(from_: datetime, to: datetime, granularity: Granularity, zone: ZoneInfo) -> list[datetime]:
    """The starts of the days or months of a zone that a range touches, in UTC; the first may be before it."""
    first = from_.astimezone(zone).date()
    begin = _midnight(first if granularity is Granularity.DAY else first.replace(day=1), zone)
    return [min(begin, from_), *(start for start, _ in _buckets(from_, to, granularity, zone) if start > from_)]


def page_ranges(
    from_: datetime, to: datetime, granularity: Granularity, zone: ZoneInfo, *, after: str | None
) -> Iterator[Range]:
    """Ranges of 1, 2, 4, … hours, days or months, one behind the other, for who needs the first rows only.

    `after` is the start of a bucket, as `bucket_key` writes it: the first range begins with that bucket.
    """
    # A range may have millions of buckets: their starts are computed, not counted off.
    start, count = _numbered(from_, to, granularity, zone)
    taken = bisect_left(range(count), after or "", key=lambda number: bucket_key(start(number)))
    size = 1
    while taken < count:
        end = min(taken + size, count)
        yield start(taken), start(end) if end < count else to
        taken, size = end, size * 2


def _numbered(
    from_: datetime, to: datetime, granularity: Granularity, zone: ZoneInfo
) -> tuple[Callable[[int], datetime], int]:
    """The start of a range's bucket by its number, in which bucket 0 begins with the range, and their count."""
    if granularity is Granularity.HOUR:
        hour = _hour(from_.astimezone(UTC))
        return lambda number: hour + number * _HOUR if number else from_, -((hour - to) // _HOUR)
    first, last = (moment.astimezone(zone).date() for moment in (from_, to - _TICK))
    if granularity is Granularity.DAY:
        return lambda number: _midnight(first + number * _DAY, zone) if number else from_, (last - first).days + 1
    months = (last.year - first.year) * 12 + last.month - first.month
    return lambda number: _midnight(_months_after(first, number), zone) if number else from_, months + 1


def bucket_key(start: datetime) -> str:
    """The start of a bucket as text that sorts like the time."""
    return f"{start.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _buckets(from_: datetime, to: datetime, granularity: Granularity, zone: ZoneInfo) -> Iterator[Range]:
    begin = from_
    while begin < to:
        end = _end_of_bucket(begin, granularity, zone)
        yield begin, min(end, to)
        begin = end


def _end_of_bucket(at: datetime, granularity: Granularity, zone: ZoneInfo) -> datetime:
    """Hours are those of UTC."""
    if granularity is Granularity.HOUR:
        return _hour(at.astimezone(UTC)) + _HOUR
    local = at.astimezone(zone).date()
    return _midnight(local + _DAY if granularity is Granularity.DAY else _months_after(local, 1), zone)


def _stretches_of(begin: datetime, end: datetime) -> Iterator[Stretch]:
    hours = _whole(begin, end, _hour, _HOUR)
    if hours is None:
        yield from _parts_of_hours(begin, end)
        return
    days = _whole(*hours, _day, _DAY) or (hours[1], hours[1])
    yield from _parts_of_hours(begin, hours[0])
    yield Stretch(Unit.HOURS, hours[0], days[0])
    yield Stretch(Unit.DAYS, *days)
    yield Stretch(Unit.HOURS, days[1], hours[1])
    yield from _parts_of_hours(hours[1], end)
    yield Stretch(Unit.PENDING, *hours)


def _parts_of_hours(begin: datetime, end: datetime) -> Iterator[Stretch]:
    """Whole quarters, hour by hour, and the bills before and after them."""
    while begin < end:
        to = min(_hour(begin) + _HOUR, end)
        quarters = _whole(begin, to, _quarter, _QUARTER) or (to, to)
        yield Stretch(Unit.BILLS, begin, quarters[0])
        yield Stretch(Unit.QUARTERS, *quarters)
        yield Stretch(Unit.BILLS, quarters[1], to)
        begin = to


def _months_after(day: date, months: int) -> date:
    """The first day of the month so many months later."""
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)


def _whole(
    from_: datetime, to: datetime, floor: Callable[[datetime], datetime], longest: timedelta
) -> Range | None:
    """The whole units between two times; `floor` gives a unit's start, and no unit is longer than `longest`."""
    begin = floor(from_)
    if begin < from_:
        begin = floor(begin + longest)
    end = floor(to)
    return (begin, end) if begin <= end else None


def _quarter(moment: datetime) -> datetime:
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _day(moment: datetime) -> datetime:
    return _hour(moment).replace(hour=0)


def _month(moment: datetime) -> datetime:
    return _day(moment).replace(day=1)


def _named(hours: Range, days: Range, months: Range) -> dict[str, datetime]:
    named = {"hours": hours, "days": days, "months": months, "nothing": (months[1], months[1])}
    begins = {f"{unit}_from": begin for unit, (begin, _) in named.items()}
    ends = {f"{unit}_to": end for unit, (_, end) in named.items()}
    return begins | ends


def _edges(from_: datetime, to: datetime, hours: Range) -> dict[str, datetime]:
    return {"head": from_, "head_end": hours[0], "tail": hours[1], "tail_end": to}
