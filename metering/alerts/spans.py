"""Spans: a stretch of any time zone as signed pieces of the sums by month, day and hour, and of the bills.

A month in Berlin is the month in UTC and the hours that it begins earlier, less the hours that it ends earlier. So
a customer's month is read from a few rows, wherever the customer is, and is exact: what is left over of an hour,
where a zone is half an hour off, is read from the bills themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from metering.core.period import BillingPeriod

_HOUR = timedelta(hours=1)
_HALF_DAY = timedelta(hours=12)


class Source(StrEnum):
    """What a span is read from; PART is less than an hour, and read from the bills."""

    MONTH = "month"
    DAY = "day"
    HOUR = "hour"
    PART = "part"


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open stretch whose sum is added (`sign` 1) or taken away (-1)."""

    source: Source
    from_: datetime
    to_: datetime
    sign: int


def month_spans(period: BillingPeriod, *, starts_at: datetime, ends_at: datetime) -> list[Span]:
    """The spans that make up a month with these bounds, in whatever zone they were drawn."""
    begin, end = (datetime(each.year, each.month, 1, tzinfo=UTC) for each in (period, period.next))
    return [
        Span(Source.MONTH, begin, end, 1),
        *_from_on(starts_at, begin, 1),
        *_from_on(ends_at, end, -1),
    ]


def day_spans(*, starts_at: datetime, ends_at: datetime) -> list[Span]:
    """The spans that make up a stretch of whole days of some zone."""
    begin, end = _nearest_midnight(starts_at), _nearest_midnight(ends_at)
    return [
        Span(Source.DAY, begin, end, 1),
        *_from_on(starts_at, begin, 1),
        *_from_on(ends_at, end, -1),
    ]


def _from_on(at: datetime, anchor: datetime, sign: int) -> Iterator[Span]:
    """What the sum from `at` on has more than the sum from `anchor` on, which is a whole hour."""
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
