"""Retries: who asked for what, and which streams are interruptions."""

from datetime import timedelta

import pytest

from metering.events.events import Outcome, UsageEvent
from metering.streams.retries import Interruption, interruption_of, request_key_of
from metering.streams.stream import StreamFacts, fold
from tests.builders.events import T0, delivered, end, start

ASKED = {"request_hash": "h", "api_key_id": "k"}


def facts(*events: UsageEvent) -> StreamFacts:
    (found,) = fold(events).values()
    return found


def test_a_request_is_known_by_its_customer_key_and_hash() -> None:
    key = request_key_of(start(**ASKED))
    assert key == request_key_of(start("another", model="another", **ASKED))
    others = [{**ASKED, "request_hash": "i"}, {**ASKED, "api_key_id": None}, {**ASKED, "customer_id": "bolt"}]
    assert len({key, *(request_key_of(start(**each)) for each in others)}) == 4


def test_without_a_hash_no_request_is_known() -> None:
    assert request_key_of(start(api_key_id="k")) is None


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    one, other = start(request_hash="bc", api_key_id="a"), start(request_hash="c", api_key_id="ab")
    assert request_key_of(one) != request_key_of(other)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_stream_is_an_interruption_when_it_was_cancelled_failed_or_abandoned(outcome: Outcome) -> None:
    ended = facts(start(), end(outcome=outcome))
    found = interruption_of(ended, request_key=7)
    interrupted = outcome in {Outcome.CANCELLED, Outcome.FAILED, Outcome.ABANDONED}
    assert (found is not None) == interrupted
    if found is not None:
        assert found == Interruption(
            customer_id="acme", stream_id="s", request_key=7, ended_at=T0 + timedelta(seconds=4)
        )


def test_a_stream_without_an_end_was_interrupted_at_its_last_event() -> None:
    found = interruption_of(facts(start(), delivered()), request_key=7)
    assert found is not None
    assert found.ended_at == T0 + timedelta(seconds=2)
