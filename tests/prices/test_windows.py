"""Windows: times of the day on days of the week, half-open, in UTC; at every time one rate of a kind applies."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.usage import UsageKind
from metering.prices.check_rates import InvalidRateError, check_rates
from metering.prices.rates import Rate, RateCard
from metering.prices.windows import DailyWindow, Weekday

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
WORKDAYS = (Weekday.MON, Weekday.TUE, Weekday.WED, Weekday.THU, Weekday.FRI)
HOURS = st.integers(0, 23).map(time)
WINDOWS = st.builds(
    DailyWindow, HOURS, HOURS, st.lists(st.sampled_from(Weekday), max_size=6, unique=True).map(tuple)
)
TIMES = st.integers(0, 7 * 24 * 60 - 1).map(lambda minutes: MONDAY + timedelta(minutes=minutes))


def at(day: int, clock: str) -> datetime:
    """A time of the week that starts on Monday, 23 November; Saturday is day 5."""
    return datetime.combine((MONDAY + timedelta(days=day)).date(), time.fromisoformat(clock), tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "clock", "inside"),
    [
        (0, "09:29:59.999999", False),
        (0, "09:30:00", True),
        (0, "16:29:59.999999", True),
        (0, "16:30:00", False),
        (4, "12:00:00", True),
        (5, "12:00:00", False),
        (6, "12:00:00", False),
    ],
)
def test_a_window_on_workdays_is_half_open_and_closed_at_the_weekend(day: int, clock: str, inside: bool) -> None:
    assert DailyWindow(time(9, 30), time(16, 30), WORKDAYS).contains(at(day, clock)) is inside


@pytest.mark.parametrize(
    ("day", "clock", "inside"),
    [
        (4, "01:00:00", False),  # it is the night of Thursday
        (4, "22:59:59", False),
        (4, "23:00:00", True),
        (5, "01:59:59", True),
        (5, "02:00:00", False),
        (5, "23:00:00", False),
    ],
)
def test_a_window_that_spans_midnight_belongs_to_the_day_on_which_it_opens(
    day: int, clock: str, inside: bool
) -> None:
    assert DailyWindow(time(23), time(2), (Weekday.FRI,)).contains(at(day, clock)) is inside


def test_a_window_of_sunday_night_runs_into_monday() -> None:
    night = DailyWindow(time(23), time(2), (Weekday.SUN,))
    assert night.contains(at(0, "01:00"))
    assert night.contains(at(6, "23:30"))
    assert not night.contains(at(1, "01:00"))


def test_a_window_that_ends_when_it_starts_is_a_day_from_then_on() -> None:
    saturday = DailyWindow(time(8), time(8), (Weekday.SAT,))
    found = [saturday.contains(at(*when)) for when in ((5, "07:59"), (5, "08:00"), (6, "07:59"), (6, "08:00"))]
    assert found == [False, True, True, False]


def test_the_weekday_is_that_of_utc_whatever_zone_a_time_is_written_in() -> None:
    monday = DailyWindow(time(), time(), (Weekday.MON,))
    assert monday.contains(datetime(2026, 11, 24, 8, tzinfo=ZoneInfo("Asia/Tokyo")))  # Monday 23:00 in UTC
    assert not monday.contains(datetime(2026, 11, 23, 8, tzinfo=ZoneInfo("Asia/Tokyo")))


def test_the_order_of_weekdays_does_not_matter_and_all_seven_are_every_day() -> None:
    assert DailyWindow(time(1), time(2), (Weekday.FRI, Weekday.MON, Weekday.FRI)) == DailyWindow(
        time(1), time(2), (Weekday.MON, Weekday.FRI)
    )
    assert DailyWindow(time(1), time(2), tuple(Weekday)) == DailyWindow(time(1), time(2))


@given(WINDOWS, WINDOWS)
def test_two_windows_meet_exactly_if_some_time_is_in_both(one: DailyWindow, other: DailyWindow) -> None:
    # Windows of whole hours are open in the middle of an hour, or not at all in it.
    middles = [MONDAY + timedelta(hours=hour, minutes=30) for hour in range(7 * 24)]
    assert one.meets(other) == any(one.contains(middle) and other.contains(middle) for middle in middles)
    assert one.meets(other) == other.meets(one)


def rate(usd: int, daily: DailyWindow | None, kind: UsageKind = UsageKind.INPUT) -> Rate:
    return Rate(kind=kind, usd_per_million=Decimal(usd), daily=daily)


def card_of(*rates: Rate) -> RateCard:
    return RateCard(
        rate_card_id="rc", provider="p", model="m", effective_from=MONDAY, rates=rates, names={"equals": "m"}
    )


@given(st.lists(WINDOWS, max_size=4, unique=True), st.lists(WINDOWS, max_size=3, unique=True), TIMES)
def test_at_every_time_exactly_one_rate_of_a_kind_applies(
    inputs: list[DailyWindow], outputs: list[DailyWindow], moment: datetime
) -> None:
    rates = [rate(0, None), rate(0, None, UsageKind.OUTPUT)]
    rates += [rate(place + 1, window) for place, window in enumerate(inputs)]
    rates += [rate(place + 1, window, UsageKind.OUTPUT) for place, window in enumerate(outputs)]
    overlap = any(
        one.meets(other) for of in (inputs, outputs) for place, one in enumerate(of) for other in of[:place]
    )
    if overlap:
        with pytest.raises(InvalidRateError, match="overlap"):
            check_rates(rates)
        return
    check_rates(rates)
    card = card_of(*rates)
    table = card.rates_for(input_tokens=1, service_tier=None, at=moment)
    for kind, windows in ((UsageKind.INPUT, inputs), (UsageKind.OUTPUT, outputs)):
        open_ = [place + 1 for place, window in enumerate(windows) if window.contains(moment)]
        assert table[kind].usd_per_million == (open_[0] if open_ else 0)
        assert len(open_) <= 1


def test_the_error_for_windows_that_overlap_names_them() -> None:
    one, other = DailyWindow(time(9), time(17), WORKDAYS), DailyWindow(time(16), time(18), (Weekday.FRI,))
    with pytest.raises(InvalidRateError, match=r"kind input .* 09:00:00 to 17:00:00 on mon, .* and 16:00:00"):
        check_rates([rate(1, None), rate(2, one), rate(3, other)])
    check_rates([rate(1, None), rate(2, one), rate(3, DailyWindow(time(16), time(18), (Weekday.SAT,)))])


def test_windows_of_two_kinds_may_overlap_and_each_kind_has_its_own() -> None:
    rates = (rate(1, None), rate(2, DailyWindow(time(9), time(17))), rate(5, None, UsageKind.OUTPUT))
    rates += (rate(9, DailyWindow(time(8), time(12)), UsageKind.OUTPUT),)
    check_rates(rates)
    card = card_of(*rates)

    def prices(clock: str) -> tuple[Decimal, Decimal]:
        table = card.rates_for(input_tokens=1, service_tier=None, at=at(0, clock))
        return table[UsageKind.INPUT].usd_per_million, table[UsageKind.OUTPUT].usd_per_million

    assert [prices(clock) for clock in ("07:00", "08:30", "10:00", "13:00", "18:00")] == [
        (1, 5),
        (1, 9),
        (2, 9),
        (2, 5),
        (1, 5),
    ]
