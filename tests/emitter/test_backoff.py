"""Backoff: pauses grow with each failure up to a bound, or are as long as the server asks."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.emitter.delivery import Backoff


def pauses(backoff: Backoff, count: int, **told: object) -> list[float]:
    options = {"retry_after": None, "misconfigured": False, **told}
    return [backoff._seconds(**options) for _ in range(count)]  # type: ignore[arg-type]


@given(st.integers(1, 60))
def test_each_pause_is_up_to_twice_as_long_and_none_is_longer_than_half_a_minute(failures: int) -> None:
    last = pauses(Backoff(slow=60), failures)[-1]
    ceiling = min(0.1 * 2 ** (failures - 1), 30.0)
    assert ceiling / 2 <= last <= ceiling


def test_after_a_success_the_first_pause_is_short_again() -> None:
    backoff = Backoff(slow=60)
    pauses(backoff, 10)
    backoff.reset()
    assert pauses(backoff, 1)[0] <= 0.1


@given(st.floats(0, 1_000))
def test_a_server_is_waited_for_as_long_as_it_asks_up_to_a_bound(asked: float) -> None:
    (pause,) = pauses(Backoff(slow=60), 1, retry_after=asked)
    assert min(asked, 60) <= pause <= min(asked, 60) * 1.2


def test_what_a_person_has_to_mend_is_tried_slowly() -> None:
    assert pauses(Backoff(slow=60), 3, misconfigured=True, retry_after=1.0) == [60, 60, 60]


def test_pauses_of_many_differ() -> None:
    assert len({pauses(Backoff(slow=60), 1)[0] for _ in range(50)}) > 40


@pytest.mark.parametrize("left", [-1.0, 0.0, 0.05])
def test_while_closing_no_pause_goes_beyond_the_deadline(left: float) -> None:
    began = time.monotonic()
    Backoff(slow=600).wait(retry_after=None, misconfigured=True, deadline=lambda: began + left)
    assert time.monotonic() - began < 60


def test_an_interrupt_ends_a_pause() -> None:
    backoff = Backoff(slow=600)
    backoff.interrupt()
    began = time.monotonic()
    backoff.wait(retry_after=None, misconfigured=True, deadline=lambda: None)
    assert time.monotonic() - began < 60
