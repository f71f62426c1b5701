"""OpenMeter's usage events, and Kong's, as streams."""

from typing import Any

import pytest

from metering.translations.completions import Sender
from metering.translations.openmeter_types import declared_types
from metering.translations.translated import Translated
from tests.translations.records import KONG, OPENMETER, SENDER, datas, only_pair, openmeter, reason


def of(data: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    known: dict[str, Any] = {**OPENMETER, **envelope}
    return {**known, "data": {**known["data"], **data}}


def streams(translated: Translated) -> list[str]:
    return [data["stream_id"] for data in datas(translated)]


def test_an_event_of_openmeters_example_is_a_stream_of_its_input() -> None:
    translated = openmeter(OPENMETER)
    event = translated.events[0].event
    assert (event["subject"], event["source"], event["time"]) == (
        "customer-1",
        "my-app",
        "2026-11-23T15:00:00.123000Z",
    )
    began, ended = only_pair(translated)
    assert began == {
        "provider": "openai", "model": "gpt-4o", "streaming": True, "operation": "chat", "inlet": "openmeter",
    }  # fmt: skip
    assert ended == {
        "outcome": "completed", "usage": {"input_tokens": 100, "output_tokens": 0}, "inlet": "openmeter",
    }  # fmt: skip


def test_kongs_two_events_are_two_streams_that_bill_one_side_each() -> None:
    answer = {**KONG, "id": "e5b2c3f0-response", "data": {**KONG["data"], "tokens": "8", "type": "response"}}
    translated = openmeter(KONG, answer)
    usages = [data.get("usage") for data in datas(translated)]
    assert usages == [
        None,
        {"input_tokens": 23, "output_tokens": 0},
        None,
        {"input_tokens": 0, "output_tokens": 8},
    ]
    assert len(set(streams(translated))) == 2


def test_kongs_events_of_requests_tell_of_no_tokens() -> None:
    translated = openmeter({**KONG, "type": "kong.api_request", "data": {"route_name": "x"}})
    assert (list(translated.events), list(translated.left_out)) == ([], [])


def test_events_that_name_their_completion_are_one_stream_in_any_order() -> None:
    asked = of({"completion_id": "c1"}, id="1")
    answered = of({"completion_id": "c1", "type": "output", "tokens": 8}, id="2")
    one, other = openmeter(asked, answered), openmeter(answered, asked)
    assert [each.event for each in one.events] == [each.event for each in reversed(other.events)]
    began, ended = only_pair(one)
    assert began["input_tokens"] == 100
    assert ended["usage"] == {"output_tokens": 8}


def test_an_event_with_several_counters_is_one_stream() -> None:
    types = declared_types(
        """
        [types."my.completion"]
        model = ["llm.name"]
        usage_source = "provider"
        [types."my.completion".counters]
        "usage.in" = "input_tokens"
        "usage.cached" = "cache_read_input_tokens"
        "usage.out" = "output_tokens"
        """
    )
    data = {
        "llm": {"name": "claude-opus-4.7"},
        "usage": {"in": 812, "cached": 800, "out": "37"},
        "request_id": "r1",
    }
    began, ended = only_pair(openmeter({**OPENMETER, "type": "my.completion", "data": data}, types=types))
    assert (began["provider"], began["model"]) == ("anthropic", "claude-opus-4.7")
    assert ended["usage"] == {"input_tokens": 812, "output_tokens": 37, "cache_read_input_tokens": 800}
    assert ended["usage_source"] == "provider"


def test_a_count_of_a_part_counts_what_it_is_a_part_of() -> None:
    types = declared_types('[types.prompt.kinds]\nreasoning = "reasoning_output_tokens"')
    _, ended = only_pair(openmeter(of({"type": "reasoning"}), types=types))
    assert ended["usage"] == {"input_tokens": 0, "output_tokens": 100, "reasoning_output_tokens": 100}


def test_the_same_event_is_the_same_stream_and_any_other_is_another() -> None:
    others = [of({}, id="2"), of({}, source="other"), of({"type": "output"}), of({"completion_id": "c1"})]
    named = [streams(openmeter(each))[0] for each in (OPENMETER, *others)]
    assert named[0].startswith("openmeter:5c10fade-1c9e-4d6c-8275-c52c36731d3c:")
    assert len(set(named)) == len(named)
    assert streams(openmeter(OPENMETER))[0] == named[0]


def test_long_and_odd_ids_are_streams_with_short_ids() -> None:
    for odd in ("x" * 5_000, "a\nb", "\0", "\ud800", "é" * 70, 17):
        [name, _] = streams(openmeter(of({}, id=odd)))
        assert 0 < len(name) <= 128
        name.encode()


def test_a_bound_key_pays_and_names_the_source() -> None:
    sender = Sender(received_at=SENDER.received_at, customer_id="acme", source="/gateways/eu-1")
    for each in openmeter({**OPENMETER, "subject": None}, sender=sender).events:
        assert (each.event["subject"], each.event["source"]) == ("acme", "/gateways/eu-1")


def test_without_a_time_it_is_that_of_receipt() -> None:
    event = openmeter({**OPENMETER, "time": None}).events[0].event
    assert event["time"] == "2026-11-23T15:01:00Z"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (of({}, type="translate"), "type: 'translate' is not declared: declare it in METERING_OPENMETER_TYPES"),
        (of({}, type=["a"]), "type: a value of type list is not declared"),
        (of({}, subject=""), "subject: expected the customer's id, got ''"),
        (of({}, id=None), "id: missing"),
        (of({}, time="yesterday"), "time: expected an RFC 3339 time with its offset, got 'yesterday'"),
        (of({}, time="2026-11-23T15:00:00"), "time: expected an RFC 3339 time with its offset"),
        (of({"type": "cached"}), "data.type: expected what the tokens are (input, system, "),
        (of({"tokens": "12.5"}), "data.tokens: expected a whole number from 0 to 2^53 - 1, got '12.5'"),
        (of({"tokens": -1}), "data.tokens: expected a whole number"),
        (of({"model": None}), "data.model: expected the model's name"),
        (of({"model": "llama-9"}), "data.provider: missing, and no provider is known for 'llama-9'"),
        ({**OPENMETER, "data": None}, "data: expected an object"),
        ("text", "expected a CloudEvent as an object"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_the_field_and_the_fix(record: Any, said: str) -> None:
    assert said in reason(openmeter(record))
