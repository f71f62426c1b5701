"""Deliveries: which answers count, how long to wait for the next attempt, and when it is given up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.alerts.deliveries import (
    MAX_ATTEMPTS,
    MAX_RETRY_AFTER,
    RETRY_DELAYS,
    Attempt,
    delivery_id_of,
    next_attempt_at,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
IDS = st.text(st.characters(exclude_categories=["Cs"]))


@given(IDS, st.integers(1, len(RETRY_DELAYS)))
def test_each_attempt_waits_its_delay_and_up_to_a_quarter_longer(delivery_id: str, attempts: int) -> None:
    at = next_attempt_at(delivery_id=delivery_id, attempts=attempts, now=NOW, retry_after=None)
    assert at is not None
    assert RETRY_DELAYS[attempts - 1] <= at - NOW <= RETRY_DELAYS[attempts - 1] * 1.25
    assert at == next_attempt_at(delivery_id=delivery_id, attempts=attempts, now=NOW, retry_after=None)


def test_deliveries_that_failed_together_do_not_come_again_together() -> None:
    moments = {next_attempt_at(delivery_id=f"whd_{n}", attempts=3, now=NOW, retry_after=None) for n in range(100)}
    assert len(moments) > 50


@given(IDS, st.timedeltas(timedelta(0), timedelta(days=9)))
def test_a_receiver_may_ask_for_more_patience_up_to_a_bound(delivery_id: str, asked: timedelta) -> None:
    plain, patient = (
        next_attempt_at(delivery_id=delivery_id, attempts=1, now=NOW, retry_after=after) for after in (None, asked)
    )
    assert plain is not None
    assert patient is not None
    assert patient - NOW == max(plain - NOW, min(asked, MAX_RETRY_AFTER))


def test_after_the_last_attempt_it_is_given_up_even_if_the_receiver_asks_for_another() -> None:
    for after in (None, timedelta(seconds=1)):
        assert next_attempt_at(delivery_id="d", attempts=MAX_ATTEMPTS, now=NOW, retry_after=after) is None


@pytest.mark.parametrize(
    ("status", "delivered", "gone"),
    [
        (200, True, False),
        (204, True, False),
        (299, True, False),
        (199, False, False),
        (301, False, False),
        (410, False, True),
        (500, False, False),
        (None, False, False),
    ],
)
def test_only_2xx_is_delivered_and_only_410_is_gone(status: int | None, delivered: bool, gone: bool) -> None:
    attempt = Attempt(status=status)
    assert (attempt.delivered, attempt.gone) == (delivered, gone)


def test_a_delivery_is_known_by_its_endpoint_message_and_replay() -> None:
    ids = {
        delivery_id_of(endpoint_id=endpoint, message_id=message, replay=replay)
        for endpoint in "ab"
        for message in "xy"
        for replay in (0, 1)
    }
    assert len(ids) == 8
