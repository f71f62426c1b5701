"""The three events: their ids and data, and the fingerprint that tells what two of them say apart."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.events import (
    Outcome,
    StreamEnd,
    StreamStart,
    TokenDelivered,
    UsageSource,
    fingerprint,
    hash64,
)
from metering.events.usage import Usage
from tests.builders.events import T0, delivered, end, start


def test_an_events_id_says_which_of_its_stream_it_is() -> None:
    assert [each.event_id for each in (start("s"), delivered("s", seq=7), end("s"))] == [
        "s:start",
        "s:t:7",
        "s:end",
    ]


def test_what_is_unknown_is_left_out_of_the_data_and_zero_and_false_are_not() -> None:
    plain = StreamStart(customer_id="a", stream_id="s", time=T0, provider="p", model="m", streaming=False)
    assert plain.attributes() == {"provider": "p", "model": "m", "streaming": False, "operation": "chat"}
    told = replace(plain, input_tokens=0, tags={"team": "a"}).attributes()
    assert (told["input_tokens"], told["tags"]) == (0, {"team": "a"})
    tokens = TokenDelivered(customer_id="a", stream_id="s", time=T0, seq=0, output_tokens=0)
    assert tokens.attributes() == {"seq": 0, "output_tokens": 0}
    ended = StreamEnd(customer_id="a", stream_id="s", time=T0, outcome=Outcome.FAILED, usage=Usage(input_tokens=0))
    assert ended.attributes() == {"outcome": "failed", "usage": {"input_tokens": 0}}


def test_the_time_is_no_part_of_what_an_event_says() -> None:
    assert fingerprint(start()) == fingerprint(start(time=T0 + timedelta(days=1)))
    assert fingerprint(end()) == fingerprint(end(time=T0 + timedelta(days=1)))


def test_the_order_of_tags_is_no_part_of_what_a_start_says() -> None:
    assert fingerprint(start(tags={"a": "1", "b": "2"})) == fingerprint(start(tags={"b": "2", "a": "1"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "openai"},
        {"model": "claude-opus-4.6"},
        {"streaming": False},
        {"operation": "embed"},
        {"input_tokens": 813},
        {"input_tokens": None},
        {"max_output_tokens": 1},
        {"api_key_id": "k"},
        {"request_hash": "h"},
        {"service_tier": "batch"},
        {"tags": {"team": "a"}},
    ],
)
def test_a_start_that_says_something_else_has_another_fingerprint(changes: dict[str, object]) -> None:
    assert fingerprint(start(**changes)) != fingerprint(start())


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.CANCELLED},
        {"usage": Usage(input_tokens=812, output_tokens=38)},
        {"usage": None},
        {"usage_source": UsageSource.PROVIDER},
        {"finish_reasons": ("stop",)},
        {"finish_reasons": ()},
        {"response_model": "m"},
        {"response_id": "r"},
        {"service_tier": "batch"},
        {"error_type": "e"},
    ],
)
def test_an_end_that_says_something_else_has_another_fingerprint(changes: dict[str, object]) -> None:
    assert fingerprint(end(**changes)) != fingerprint(end())


@given(st.binary())
def test_a_fingerprint_fits_postgresqls_bigint(said: bytes) -> None:
    assert -(2**63) <= hash64(said) < 2**63


def test_fingerprints_stay_what_they_are() -> None:
    """They are stored: with another algorithm, an event that is sent again would contradict itself."""
    assert hash64(b"{}") == 137279666008780115
