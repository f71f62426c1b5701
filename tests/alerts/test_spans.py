"""Spans: the signed pieces of a month or of days, in any zone, add up to the stretch itself."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from metering.alerts.spans import Source, Span, day_spans, month_spans
from metering.core.period import BillingPeriod, day_bounds

ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Kiritimati"]
).map(ZoneInfo)
MONTHS = st.builds(BillingPeriod, st.integers(2020, 2030), st.integers(1, 12))
QUARTER = timedelta(minutes=15)


def covered(spans: list[Span]) -> dict[datetime, int]:
    """How often each quarter of an hour is counted, where it is at all."""
    counts: dict[datetime, int] = {}
    for span in spans:
        at = span.from_
        while at < span.to_:
            counts[at] = counts.get(at, 0) + span.sign
            at += QUARTER
    return {at: count for at, count in counts.items() if count}


def check(spans: list[Span], starts_at: datetime, ends_at: datetime) -> None:
    quarters = (ends_at - starts_at) // QUARTER
    assert covered(spans) == {starts_at + number * QUARTER: 1 for number in range(quarters)}
    for span in spans:
        assert span.from_ < span.to_
        if span.source is Source.HOUR:
            assert span.from_.minute == span.to_.minute == 0
        if span.source is Source.PART:
            assert span.to_ - span.from_ < timedelta(hours=1)


@given(MONTHS, ZONES)
def test_a_months_pieces_add_up_to_it(month: BillingPeriod, zone: ZoneInfo) -> None:
    starts_at, ends_at = (each.start(time_zone=zone).astimezone(UTC) for each in (month, month.next))
    spans = month_spans(month, starts_at=starts_at, ends_at=ends_at)
    check(spans, starts_at, ends_at)
    assert sum(span.source is Source.MONTH for span in spans) == 1
    assert len(spans) <= 5


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.integers(1, 31), ZONES)
def test_the_pieces_of_days_add_up_to_them(first: date, days: int, zone: ZoneInfo) -> None:
    starts_at, _ = day_bounds(first, time_zone=zone)
    _, ends_at = day_bounds(first + timedelta(days=days - 1), time_zone=zone)
    check(day_spans(starts_at=starts_at, ends_at=ends_at), starts_at, ends_at)


def test_a_month_in_utc_is_read_from_its_one_row() -> None:
    month = BillingPeriod(2026, 11)
    starts_at, ends_at = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    assert month_spans(month, starts_at=starts_at, ends_at=ends_at) == [Span(Source.MONTH, starts_at, ends_at, 1)]
