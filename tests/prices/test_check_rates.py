"""Which rates make a card, and what is said of those that do not."""

from datetime import time

import pytest

from metering.prices.check_rates import InvalidRateError, check_rates, check_windows
from metering.prices.rate_text import parse_rate

NIGHT = "~22:00-06:00"


@pytest.mark.parametrize(
    "rates",
    [
        ["input=1"],
        ["input=1", "output=2", "input>200000=3", "output>200000=4"],
        ["input=1", f"input=2{NIGHT}", f"input>5=3{NIGHT}", "input@batch=1", f"input@batch=2{NIGHT}"],
        ["input=1", "input=2~mon-fri/09:00-17:00", "input=3~sat,sun"],
    ],
)
def test_rates_of_which_one_applies_at_every_time_make_a_card(rates: list[str]) -> None:
    check_rates([parse_rate(each) for each in rates])


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([], "needs a rate without conditions for input"),
        (["output=1"], "needs a rate without conditions for input"),
        ([f"input=1{NIGHT}"], "needs a rate without conditions for input"),
        (["input=1", "input=2"], "two rates for the same input size, service tier and time of day"),
        (["input=1", f"input=2{NIGHT}", f"input=3{NIGHT}"], "two rates for the same"),
        (["input=1", "output>5=2"], "kind output has a tier but no rate without above_input_tokens"),
        (["input=1", f"input=2{NIGHT}", "input=3~05:00-07:00"], "overlap: 05:00:00 to 07:00:00 and 22:00:00"),
        (["input=1", "input=2~fri/22:00-02:00", "input=3~sat"], "overlap"),
    ],
)
def test_what_is_no_card_is_refused_with_its_reason(rates: list[str], message: str) -> None:
    with pytest.raises(InvalidRateError) as refused:
        check_rates([parse_rate(each) for each in rates])
    assert message in str(refused.value)


def test_windows_of_two_tiers_may_overlap() -> None:
    rates = [parse_rate(each) for each in (f"input=1{NIGHT}", "input@batch=2~05:00-07:00")]
    check_windows(rates)
    assert {rate.daily.start for rate in rates if rate.daily} == {time(22), time(5)}
