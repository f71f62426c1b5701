"""Spans: a range of a time zone as signed pieces of the UTC sums by month, day and hour, and of the bills.

A month in Berlin is the month in UTC, plus the hours by which it starts earlier, minus the hours by which it ends
earlier. A customer's month is therefore read from a few rows in any time zone, and is exact: where a zone is
offset by half an hour, the part of an hour is read from the bills.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from metering.core.period import BillingPeriod

_HOUR = timedelta(hours=1)
_HALF_DAY = timedelta(hours=12)


class Source(StrEnum):
    """The sums that a span is read from. A PART is shorter than an hour and is read from the bills."""

    MONTH = "month"
    DAY = "day"
    HOUR = "hour"
    PART = "part"


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range whose sum is added (`sign` 1) or subtracted (-1)."""

    source: Source
    from_: datetime
    to_: datetime
    sign: int


def month_spans(period: BillingPeriod, *, starts_at: datetime, ends_at: datetime) -> list[Span]:
    """The spans that make up a month with these bounds, in any time zone."""
    begin, end = (datetime(each.year, each.month, 1, tzinfo=UTC) for each in (period, period.next))
    return [
        Span(Source.MONTH, begin, end, 1),
        *_difference(starts_at, begin, 1),
        *_difference(ends_at, end, -1),
    ]


def day_spans(*, starts_at: datetime, ends_at: datetime) -> list[Span]:
    """The spans that make up whole days of a time zone."""
    begin, end = _nearest_midnight(starts_at), _nearest_midnight(ends_at)
    return [
        Span(Source.DAY, begin, end, 1),
        *_difference(starts_at, begin, 1),
        *_difference(ends_at, end, -1),
    ]


def _difference(at: datetime, anchor: datetime, sign: int) -> Iterator[Span]:
    """The sum from `at` on minus the sum from `anchor` on; `anchor` is a whole hour."""
    if at <= anchor:
        hour = _hour(at) if at == _hour(at) else _hour(at) + _HOUR
        pieces = (Span(Source.PART, at, hour, sign), Span(Source.HOUR, hour, anchor, sign))
    else:
        hour = _hour(at)
        pieces = (Span(Source.HOUR, anchor, hour, -sign), Span(Source.PART, hour, at, -sign))
    return (piece for piece in pieces if piece.from_ < piece.to_)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _nearest_midnight(at: datetime) -> datetime:
    return (at + _HALF_DAY).replace(hour=0, minute=0, second=0, microsecond=0)
