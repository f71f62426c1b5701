"""Whose usage a stream through LiteLLM ends with; no LiteLLM is needed."""

import json
from types import SimpleNamespace
from typing import Any

from metering.answers.tokens import counter_for
from metering.emitter import MeteredStream
from metering.emitter.identity import StreamIdentity
from metering.emitter.meter import Output, StreamMeter
from metering.events.events import StreamEnd, UsageEvent
from metering.inlets.litellm_attempts import Attempt, Attempts
from metering.inlets.litellm_calls import Call
from metering.inlets.litellm_watch import Watch

_MADE_UP = {"prompt_tokens": 8, "completion_tokens": 99, "total_tokens": 107}
_REPORTED = {"prompt_tokens": 17, "completion_tokens": 502, "total_tokens": 519}


class _World:
    """The attempts of a process, and the events that they emit."""

    def __init__(self) -> None:
        self.attempts = Attempts()
        self.events: list[UsageEvent] = []

    def begin(self, details: dict[str, Any], model: str = "gpt-4o") -> Attempt:
        identity = StreamIdentity(
            customer_id="acme",
            stream_id=f"s{len(self.events)}",
            provider="openai",
            model=model,
            streaming=True,
            input_tokens=16,
            input_exact=True,
            tags={},
        )
        meter = StreamMeter(
            identity=identity, counter=counter_for(model=model), emit=self._emit, output=Output.UNTOLD
        )
        stream = MeteredStream(meter=meter, start=meter.make_start(), emit=self._emit, durable=False)
        call = Call(
            customer_id="acme",
            api_key_id=None,
            provider="openai",
            model=model,
            operation="chat",
            streaming=True,
            request=None,
            input_tokens=16,
            input_characters=None,
            max_output_tokens=None,
            request_hash=None,
            service_tier=None,
            tags={},
        )
        attempt = Attempt(stream=stream.__enter__(), details=details, call=call, owed=0)
        self.attempts.add(attempt)
        return attempt

    def end_of(self, attempt: Attempt) -> StreamEnd:
        attempt.stream.end()
        [end] = [
            event
            for event in self.events
            if isinstance(event, StreamEnd) and event.stream_id == attempt.stream.stream_id
        ]
        return end

    def _emit(self, event: UsageEvent, **_: object) -> None:
        self.events.append(event)


def _details(call_type: str = "acompletion") -> dict[str, Any]:
    return {"litellm_call_id": "chosen-by-the-client", "call_type": call_type}


def _chunk(text: str | None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


def _counts(end: StreamEnd) -> tuple[object, ...]:
    assert end.usage is not None
    return end.usage.input_tokens, end.usage.output_tokens, end.usage_source


def test_a_usage_that_litellm_adds_is_not_read() -> None:
    world, details, kept = _World(), _details(), list[Any]()
    attempt = world.begin(details)
    watch = Watch(attempts=world.attempts, details=details, response=SimpleNamespace(chunks=kept))
    for chunk in (_chunk(" one"), _chunk(" two"), _chunk(None, finish="stop")):
        kept.append(chunk)
        watch.take(chunk)
    watch.take({"choices": [], "usage": _MADE_UP})
    assert watch.finish() is None
    assert _counts(world.end_of(attempt)) == (16, 2, "gateway_count")


def test_the_usage_in_a_kept_chunk_is_the_providers() -> None:
    world, details, kept = _World(), _details(), list[Any]()
    attempt = world.begin(details)
    watch = Watch(attempts=world.attempts, details=details, response=SimpleNamespace(chunks=kept))
    for chunk in (_chunk(" one"), _chunk(None, finish="stop")):
        kept.append(chunk)
        watch.take(chunk)
    assert watch.awaits_usage
    kept.append({"choices": [], "usage": _REPORTED})
    assert watch.finish() is None
    assert _counts(world.end_of(attempt)) == (17, 502, "provider")


def test_a_stream_without_a_finish_reason_of_the_upstream_was_cut() -> None:
    world, details, kept = _World(), _details(), list[Any]()
    world.begin(details)
    watch = Watch(attempts=world.attempts, details=details, response=SimpleNamespace(chunks=kept))
    kept.append(_chunk(" one"))
    watch.take(kept[0])
    watch.take(_chunk(None, finish="stop"))
    assert watch.finish() == "upstream_incomplete"


def test_after_a_fallback_amid_the_stream_the_rest_is_the_next_attempts() -> None:
    world, details, kept = _World(), _details(), list[Any]()
    first = world.begin(details)
    watch = Watch(attempts=world.attempts, details=details, response=SimpleNamespace(chunks=kept))
    world.attempts.take(first)
    first.stream.end("failed", error_type="retried")
    second = world.begin(details)
    watch.take(_chunk(" one"))
    watch.take(_chunk(None, finish="stop"))
    watch.take({"choices": [], "usage": _REPORTED})
    watch.finish()
    assert world.end_of(first).usage is None
    assert _counts(world.end_of(second)) == (17, 502, "estimate")


def test_claudes_own_events_have_the_providers_usage_and_translated_ones_have_not() -> None:
    usage = {"input_tokens": 17, "output_tokens": 502}
    events: list[dict[str, Any]] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " one"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
    ]
    for model, source in (("claude-sonnet-4-5", "provider"), ("gpt-4o", "estimate")):
        world, details = _World(), _details("anthropic_messages")
        attempt = world.begin(details, model)
        watch = Watch(attempts=world.attempts, details=details, response=object())
        for event in events:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            watch.take(data[:20])
            watch.take(data[20:])
        watch.finish()
        assert _counts(world.end_of(attempt)) == (17, 502, source)


def test_calls_with_one_call_id_are_told_apart_by_their_details() -> None:
    world, one, other = _World(), _details(), _details()
    first, second = world.begin(one), world.begin(other)
    assert (world.attempts.find(one), world.attempts.find(other)) == (first, second)
    assert world.attempts.find(dict(one)) is None, "a copy of either could be meant"
    assert world.attempts.take(first)
    assert not world.attempts.take(first)
    assert world.attempts.find(dict(one)) is second
