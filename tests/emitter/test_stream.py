"""A stream as a context manager: exactly one end, whatever happens inside, with what was delivered."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from metering.emitter import Emitter, Usage, usage_of
from tests.emitter.sink import IngestSink, StartEmitter

ASKED: dict[str, Any] = {"customer_id": "acme", "provider": "openai", "model": "gpt-4o"}
WORDS = ["Three", "rings", "for", "the", "elven", "kings", "under", "the", "sky"]


@pytest.fixture
def emitter(sink: IngestSink, start_emitter: StartEmitter) -> Emitter:
    return start_emitter(sink.url)


def end_of(emitter: Emitter, sink: IngestSink, stream_id: str) -> dict[str, Any]:
    """The data of the one stream-end."""
    assert emitter.close(timeout=60)
    kinds = [event["type"] for event in sink.of_stream(stream_id)]
    assert (kinds.count("stream-start"), kinds.count("stream-end")) == (1, 1)
    [end] = [event for event in sink.of_stream(stream_id) if event["type"] == "stream-end"]
    data: dict[str, Any] = end["data"]
    return data


def chunk(text: str | None = None, *, finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [] if usage else [choice],
        "usage": usage,
    }


def test_a_stream_of_chunks_ends_as_completed_with_the_providers_usage(emitter: Emitter, sink: IngestSink) -> None:
    with emitter.stream(**ASKED, stream_id="s1", input_tokens=12, tags={"team": "ink"}) as stream:
        for word in WORDS:
            stream.take(ChatCompletionChunk.model_validate(chunk(f" {word}")))
        stream.take(chunk(finish="stop"))
        details = {"prompt_tokens_details": {"cached_tokens": 8}}
        stream.take(chunk(usage={"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21, **details}))
    assert end_of(emitter, sink, "s1") == {
        "stream_id": "s1",
        "outcome": "completed",
        "usage": {"input_tokens": 12, "output_tokens": 9, "cache_read_input_tokens": 8},
        "usage_source": "provider",
        "finish_reasons": ["stop"],
        "response_model": "gpt-4o-2024-08-06",
        "response_id": "chatcmpl-7",
    }
    start = sink.events["s1:start"]["data"]
    assert start == {
        "stream_id": "s1",
        "provider": "openai",
        "model": "gpt-4o",
        "streaming": True,
        "operation": "chat",
        "input_tokens": 12,
        "tags": {"team": "ink"},
    }


def test_text_is_joined_before_it_is_counted(emitter: Emitter, sink: IngestSink) -> None:
    text = "Donaudampfschifffahrtsgesellschaftskapitän " * 20
    with emitter.stream(**ASKED, stream_id="s1", input_tokens=3) as stream:
        for character in text:
            stream.text(character)
    with emitter.stream(**ASKED, stream_id="s2", input_tokens=3) as stream:
        stream.text(text)
    end = end_of(emitter, sink, "s1")
    assert end["usage_source"] == "gateway_count"
    whole = sink.events["s2:end"]["data"]["usage"]["output_tokens"]
    assert abs(end["usage"]["output_tokens"] - whole) <= len(text) // 400 + 1
    assert whole < len(text) / 2


def test_counts_of_ones_own_are_reported_on_the_way_and_at_the_end(emitter: Emitter, sink: IngestSink) -> None:
    with emitter.stream(**ASKED, stream_id="s1", input_tokens=3) as stream:
        for count in range(1, 101):
            stream.delivered(output_tokens=count, reasoning_output_tokens=count // 2)
            if count % 40 == 0:
                time.sleep(0.12)
    end = end_of(emitter, sink, "s1")
    assert end["usage"] == {"input_tokens": 3, "output_tokens": 100, "reasoning_output_tokens": 50}
    assert end["usage_source"] == "gateway_count"
    reported = [event["data"] for event in sink.of_stream("s1") if event["type"] == "token-delivered"]
    counts = [each["output_tokens"] for each in sorted(reported, key=lambda each: each["seq"])]
    assert counts == sorted(set(counts))
    assert 1 < len(counts) <= 100 // 16
    assert all(each["reasoning_output_tokens"] == each["output_tokens"] // 2 for each in reported)


class _ClientDisconnect(Exception):
    pass


_ClientDisconnect.__name__ = "ClientDisconnect"


@pytest.mark.parametrize(
    ("error", "outcome", "named"),
    [
        (asyncio.CancelledError(), "cancelled", None),
        (GeneratorExit(), "cancelled", None),
        (KeyboardInterrupt(), "cancelled", None),
        (_ClientDisconnect(), "cancelled", None),
        (TimeoutError(), "timed_out", "TimeoutError"),
        (ValueError("of the upstream"), "failed", "ValueError"),
        (ConnectionResetError(), "failed", "ConnectionResetError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_passes_on_and_decides_the_outcome(
    emitter: Emitter, sink: IngestSink, error: BaseException, outcome: str, named: str | None
) -> None:
    with pytest.raises(type(error)), emitter.stream(**ASKED, stream_id="s1", input_tokens=3) as stream:  # noqa: PT012
        stream.text("Three rings")
        raise error
    end = end_of(emitter, sink, "s1")
    assert (end["outcome"], end.get("error_type"), end["usage"]["output_tokens"]) == (outcome, named, 2)


def test_a_generator_that_its_server_closes_is_a_cancelled_stream(emitter: Emitter, sink: IngestSink) -> None:
    def answer() -> Iterator[str]:
        with emitter.stream(**ASKED, stream_id="s1", input_tokens=3) as stream:
            for word in WORDS:
                stream.text(f" {word}")
                yield word

    words = answer()
    assert [next(words), next(words), next(words)] == WORDS[:3]
    words.close()  # type: ignore[attr-defined]
    end = end_of(emitter, sink, "s1")
    assert (end["outcome"], end["usage"]["output_tokens"]) == ("cancelled", 3)


def test_a_cancelled_task_is_a_cancelled_stream(emitter: Emitter, sink: IngestSink) -> None:
    async def upstream() -> AsyncIterator[str]:
        for word in WORDS:
            yield f" {word}"
            await asyncio.sleep(0.01)
        await asyncio.sleep(60)

    async def answer(reached: asyncio.Event) -> None:
        async with emitter.stream(**ASKED, stream_id="s1", input_tokens=3, durable=True) as stream:
            assert any("s1:start" in line for line in _spooled(emitter)) or "s1:start" in sink.events
            async for text in upstream():
                stream.text(text)
                if text == " sky":
                    reached.set()

    async def scene() -> None:
        reached = asyncio.Event()
        task = asyncio.create_task(answer(reached))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    end = end_of(emitter, sink, "s1")
    assert (end["outcome"], end["usage"]["output_tokens"]) == ("cancelled", 10)


def _spooled(emitter: Emitter) -> list[str]:
    """The lines of the emitter's spool folder."""
    folder = emitter._options.spool
    return [line for path in folder.glob("*/*.ndjson") for line in path.read_text().splitlines()]


def test_who_leaves_after_the_last_token_and_its_usage_has_got_everything(
    emitter: Emitter, sink: IngestSink
) -> None:
    with pytest.raises(asyncio.CancelledError), emitter.stream(**ASKED, stream_id="s1") as stream:  # noqa: PT012
        stream.take(chunk("Three rings"))
        stream.take(chunk(finish="stop"))
        stream.take(chunk(usage={"prompt_tokens": 4, "completion_tokens": 2}))
        raise asyncio.CancelledError
    assert end_of(emitter, sink, "s1")["outcome"] == "completed"


def test_an_end_of_ones_own_counts_and_what_comes_after_it_does_not(emitter: Emitter, sink: IngestSink) -> None:
    with emitter.stream(**ASKED, stream_id="s1", input_tokens=3) as stream:
        stream.text("Three rings")
        stream.end("cancelled", finish_reason="length")
        stream.text(" for the elven kings")
        stream.end("completed")
    end = end_of(emitter, sink, "s1")
    assert (end["outcome"], end["finish_reasons"], end["usage"]["output_tokens"]) == ("cancelled", ["length"], 2)


def test_a_fallback_to_another_provider_is_told(emitter: Emitter, sink: IngestSink) -> None:
    with emitter.stream(**ASKED, stream_id="s1", input_tokens=3) as stream:
        stream.answered_by(provider="azure", model="gpt-4o-2024-11-20")
        stream.answered_by(response_id="r-1", service_tier="priority")
        stream.delivered(output_tokens=1)
    end = end_of(emitter, sink, "s1")
    told = ("response_provider", "response_model", "response_id", "service_tier")
    assert [end[name] for name in told] == ["azure", "gpt-4o-2024-11-20", "r-1", "priority"]


def test_our_own_counters_are_taken_as_they_are_and_say_who_counted(emitter: Emitter, sink: IngestSink) -> None:
    with emitter.stream(**ASKED, stream_id="s1") as stream:
        stream.text("Three rings")
        with pytest.raises(ValueError, match="source: say who counted"):
            stream.end(usage=Usage(input_tokens=1, output_tokens=5))
        stream.end(usage=Usage(input_tokens=1, output_tokens=5), source="provider")
    end = end_of(emitter, sink, "s1")
    assert (end["usage"], end["usage_source"]) == ({"input_tokens": 1, "output_tokens": 5}, "provider")


def test_usage_that_contradicts_what_was_delivered_is_not_believed(emitter: Emitter, sink: IngestSink) -> None:
    with emitter.stream(**ASKED, stream_id="s1", input_tokens=3) as stream:
        for word in WORDS:
            stream.text(f" {word}")
        stream.usage({"prompt_tokens": 0, "completion_tokens": 0})
    end = end_of(emitter, sink, "s1")
    assert (end["usage"]["output_tokens"], end["usage_source"]) == (10, "gateway_count")


def test_a_stream_of_which_nothing_is_told_claims_nothing(emitter: Emitter, sink: IngestSink) -> None:
    with emitter.stream(**ASKED, stream_id="s1"):
        pass
    assert end_of(emitter, sink, "s1") == {"stream_id": "s1", "outcome": "completed"}


def test_the_input_is_counted_from_the_request(emitter: Emitter, sink: IngestSink) -> None:
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello to the elven kings."}]}
    with emitter.stream(**ASKED, stream_id="s1", request=request) as stream:
        stream.text("Hello!")
    usage = end_of(emitter, sink, "s1")["usage"]
    assert usage["input_tokens"] == sink.events["s1:start"]["data"]["input_tokens"] == 15


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"customer_id": ""}, "customer_id: expected 1 to 128 characters, got 0"),
        ({"customer_id": 7}, "customer_id: expected text, got 7"),
        ({"stream_id": ".."}, "stream_id: expected an id other than"),
        ({"model": "m" * 257}, "model: expected 1 to 256 characters, got 257"),
        ({"input_tokens": -1}, "input_tokens: expected 0 to"),
        ({"input_tokens": 1.5}, "input_tokens: expected a whole number, got 1.5"),
        ({"tags": {"a": 1}}, "tags, 'a': expected text, got 1"),
        ({"tags": [("a", "b")]}, "tags: expected a mapping"),
        ({"streaming": "yes"}, "streaming: expected True or False"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else None,
)
def test_a_wrong_field_is_refused_before_anything_is_emitted(
    emitter: Emitter, sink: IngestSink, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        emitter.stream(**{**ASKED, **wrong})
    assert emitter.close(timeout=60)
    assert not sink.events


@pytest.mark.parametrize("told", ["half a chunk", 7, None, [chunk()]])
def test_what_is_no_chunk_and_no_usage_is_refused(emitter: Emitter, told: object) -> None:
    with emitter.stream(**ASKED) as stream:
        with pytest.raises(TypeError, match="chunk: expected a mapping or an object of an SDK"):
            stream.take(told)
        with pytest.raises(TypeError, match="usage: expected a mapping or an object of an SDK"):
            stream.usage(told)


def test_usage_objects_of_vendors_are_read_as_our_counters() -> None:
    cached = {"input_tokens": 10, "cache_read_input_tokens": 80, "output_tokens": 7}
    assert usage_of(cached, provider="anthropic") == Usage(
        input_tokens=90, output_tokens=7, cache_read_input_tokens=80
    )
    reasoned = {"prompt_tokens": 10, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 5}}
    assert usage_of(reasoned, provider="openai") == Usage(
        input_tokens=10, output_tokens=7, reasoning_output_tokens=5
    )
