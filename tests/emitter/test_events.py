"""The events as a gateway makes them: plain values are taken, wrong ones are refused, by the contract's bounds."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec import Struct, inspect

from metering.emitter import StreamEnd, StreamStart, TokenDelivered, Usage
from metering.emitter.cloudevents import encode_event
from metering.emitter.events import MAX_COUNT, MAX_FINISH_REASONS, MAX_ID, MAX_NAME, MAX_NOTE, MAX_TAGS
from metering.events.events import Outcome, UsageSource, fingerprint
from metering.events.wire.decode import decode_json
from metering.events.wire.events import DeliveredData, DeliveredEvent, EndData, StartData, UsageData, to_domain

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
KEY: dict[str, Any] = {"customer_id": "acme", "stream_id": "s1", "time": NOW}
START: dict[str, Any] = {**KEY, "provider": "openai", "model": "gpt-4o"}
END: dict[str, Any] = {**KEY, "outcome": "completed"}


def test_plain_text_and_mappings_are_taken() -> None:
    end = StreamEnd(
        **KEY,
        outcome="cancelled",  # type: ignore[arg-type]
        usage={"input_tokens": 3, "audio_seconds": Decimal("1.25")},  # type: ignore[arg-type]
        usage_source="gateway_count",  # type: ignore[arg-type]
        finish_reasons=["stop"],  # type: ignore[arg-type]
    )
    assert end.outcome is Outcome.CANCELLED
    assert end.usage_source is UsageSource.GATEWAY_COUNT
    assert end.usage == Usage(input_tokens=3, audio_seconds=Decimal("1.25"))
    assert end.finish_reasons == ("stop",)


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (StreamStart, {**START, "time": NOW.replace(tzinfo=None)}, "time: expected a datetime with a time zone"),
        (StreamStart, {**START, "time": "2026-11-23T15:00:00Z"}, "time: expected a datetime with a time zone"),
        (StreamStart, {**START, "provider": None}, "provider: expected text, got None"),
        (StreamStart, {**START, "model": ""}, "model: expected 1 to 256 characters, got 0"),
        (StreamStart, {**START, "request_hash": "a\0b"}, "request_hash: expected text without NUL"),
        (StreamStart, {**START, "tags": {str(number): "" for number in range(17)}}, "tags: expected at most 16"),
        (StreamStart, {**START, "max_output_tokens": True}, "max_output_tokens: expected a whole number"),
        (TokenDelivered, {**KEY, "seq": 1, "output_tokens": 2**53}, "output_tokens: expected 0 to 2\\^53 - 1"),
        (TokenDelivered, {**KEY, "seq": -1, "output_tokens": 2}, "seq: expected 0 to"),
        (TokenDelivered, {**KEY, "seq": 1, "output_tokens": 2.0}, "output_tokens: expected a whole number"),
        (
            StreamEnd,
            {**END, "outcome": "done"},
            "expected one of completed, cancelled, failed, timed_out, got",
        ),
        (StreamEnd, {**END, "outcome": "abandoned"}, "outcome: expected one of"),
        (StreamEnd, {**END, "usage_source": "me"}, "usage_source: expected one of provider, gateway_count, "),
        (StreamEnd, {**END, "usage": {"prompt_tokens": 1}}, "usage: no counter is called prompt_tokens"),
        (StreamEnd, {**END, "usage": 7}, "usage: expected Usage or a mapping of its counters, got 7"),
        (StreamEnd, {**END, "usage": {"input_tokens": "1"}}, "input_tokens: expected a whole number, got '1'"),
        (StreamEnd, {**END, "usage": {"audio_seconds": 1.5}}, "audio_seconds: expected a Decimal"),
        (StreamEnd, {**END, "upstream_cost_usd": 0.1}, "upstream_cost_usd: expected a Decimal"),
        (StreamEnd, {**END, "upstream_cost_usd": Decimal("1e-19")}, "at most 18 decimal places"),
        (StreamEnd, {**END, "finish_reasons": "stop"}, "finish_reasons: expected a list of texts"),
        (StreamEnd, {**END, "response_model": "m" * 257}, "response_model: expected 1 to 256"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_wrong_value_is_refused_when_the_event_is_made(
    kind: type[StreamStart | TokenDelivered | StreamEnd], given: dict[str, Any], says: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        kind(**given)


def test_what_can_be_made_is_accepted_by_the_service_as_the_same_event() -> None:
    texts = dict.fromkeys(("request_hash", "service_tier"), "🦀" * MAX_NOTE)
    events = [
        StreamStart(
            **{**START, "model": "🦀" * MAX_NAME, "provider": "🦀" * MAX_ID, **texts},
            tags={f"{number}": "🦀" * MAX_NOTE for number in range(MAX_TAGS)},
            input_tokens=MAX_COUNT,
        ),
        TokenDelivered(**KEY, seq=MAX_COUNT, output_tokens=0, reasoning_output_tokens=MAX_COUNT),
        StreamEnd(
            **END,
            usage=Usage(input_tokens=MAX_COUNT, audio_seconds=Decimal("1000000000")),
            upstream_cost_usd=Decimal("0.000000000000000001"),
            finish_reasons=tuple("x" for _ in range(MAX_FINISH_REASONS)),
        ),
    ]
    for event in events:
        decoded = decode_json(encode_event(event=event, source="/gateways/eu-1"))
        assert decoded.rejections == ()
        [known] = map(to_domain, decoded.events)
        assert known.attributes() == event.attributes()
        if not isinstance(event, TokenDelivered):
            assert fingerprint(known) == fingerprint(event)  # type: ignore[arg-type]


def _bounds(struct: type[Struct]) -> dict[str, tuple[int | None, int | None]]:
    """(least, most) of each text and counter of the wire format."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    found: dict[str, tuple[int | None, int | None]] = {}
    for field in info.fields:
        options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        for type_ in options:
            match type_:
                case inspect.StrType(min_length=least, max_length=most):
                    found[field.name] = (least or 0, most)
                case inspect.IntType(ge=least, le=most):
                    found[field.name] = (least, most)
                case inspect.ListType(max_length=most) | inspect.DictType(max_length=most):
                    found[field.name] = (None, most)
    return found


def test_the_bounds_are_those_of_the_contract() -> None:
    count, id_, name, note = (0, MAX_COUNT), (1, MAX_ID), (1, MAX_NAME), (0, MAX_NOTE)
    assert _bounds(DeliveredEvent)["subject"] == id_
    assert _bounds(StartData) == {
        "stream_id": id_,
        "provider": id_,
        "model": name,
        "operation": name,
        "input_tokens": count,
        "max_output_tokens": count,
        "api_key_id": id_,
        "request_hash": note,
        "service_tier": note,
        "tags": (None, MAX_TAGS),
    }
    assert set(_bounds(DeliveredData).values()) == {id_, count}
    assert set(_bounds(UsageData).values()) == {count, note}
    assert _bounds(EndData) == {
        "stream_id": id_,
        "finish_reasons": (None, MAX_FINISH_REASONS),
        "response_provider": id_,
        "response_model": name,
        "response_id": note,
        "service_tier": note,
        "error_type": note,
    }
