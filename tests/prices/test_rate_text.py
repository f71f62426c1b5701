"""A rate as a line of text: what it says, what is refused, and that it is read back as it was."""

from datetime import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.usage import UsageKind
from metering.prices.check_rates import InvalidRateError
from metering.prices.rate_text import parse_rate, rate_text, weekdays_text, window_text
from metering.prices.rates import Rate
from metering.prices.windows import DailyWindow, Weekday

WORKDAYS = tuple(Weekday)[:5]


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("input=7~mon-fri/09:30-16:30", DailyWindow(time(9, 30), time(16, 30), WORKDAYS)),
        ("input=7~16:30-00:30", DailyWindow(time(16, 30), time(0, 30))),
        ("input=7~sat,sun", DailyWindow(time(), time(), (Weekday.SAT, Weekday.SUN))),
        ("input=7~fri-mon/23:00-02:00", DailyWindow(
            time(23), time(2), (Weekday.MON, Weekday.FRI, Weekday.SAT, Weekday.SUN))),
        ("input=7~Tue/00:00:30-01:00", DailyWindow(time(0, 0, 30), time(1), (Weekday.TUE,))),
        ("input=7", None),
    ],
)  # fmt: skip
def test_a_rate_may_apply_on_days_of_the_week_and_at_a_time_of_day(text: str, window: DailyWindow | None) -> None:
    assert parse_rate(text) == Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(7), daily=window)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input=7~", "expected a window such as"),
        ("input=7~someday", "expected a window such as"),
        ("input=7~mon-fri/9-17", "expected a time of day"),
        ("input=7~25:00-26:00", "expected a window such as"),
        ("input=7~09:00-09:00", "always open"),
        ("input=7~mon-sun", "always open"),
        ("input=-1~mon", "0 or more"),
        ("mood=7~mon", "where KIND is one of"),
    ],
)
def test_a_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidRateError) as refused:
        parse_rate(text)
    assert message in str(refused.value)
    assert repr(text) in str(refused.value)


@given(st.lists(st.sampled_from(Weekday), unique=True, max_size=6), st.times(), st.times())
def test_a_window_is_read_back_as_it_was_written(days: list[Weekday], start: time, end: time) -> None:
    window = DailyWindow(start.replace(microsecond=0), end.replace(microsecond=0), tuple(days))
    if window.start == window.end and not window.weekdays:
        return
    assert parse_rate(f"output@flex>5=1.5~{window_text(window)}") == Rate(
        kind=UsageKind.OUTPUT,
        usd_per_million=Decimal("1.5"),
        above_input_tokens=5,
        service_tier="flex",
        daily=window,
    )


def test_three_days_in_a_row_are_a_range() -> None:
    assert weekdays_text(WORKDAYS) == "mon-fri"
    assert weekdays_text((Weekday.MON, Weekday.TUE, Weekday.SUN)) == "mon,tue,sun"
    assert weekdays_text(()) == ""


def test_a_rate_is_shown_with_its_conditions() -> None:
    shown = rate_text(parse_rate("output@flex>200000=12.50~mon-fri/09:30-16:30"))
    assert shown == "output@flex>200,000 mon-fri/09:30-16:30 12.5"
