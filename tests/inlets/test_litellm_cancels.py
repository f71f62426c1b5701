"""A real LiteLLM proxy: cancels, retries, fallbacks, time-outs. Each attempt has one start and one end."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    PROMPT,
    TOKENS,
    WORDS,
    Behaviour,
    End,
    Expected,
    Pause,
    Step,
    Write,
    counted,
    document,
    event,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.hostile.ends import REFUSALS, WHOLES
from tests.inlets.litellm_proxy import LiteLLMWorld, litellm_world, post_and_leave

pytestmark = pytest.mark.long

_ANY = Expected(usage=None)
_HIDDEN = openai_usage(PROMPT, 520, completion_tokens_details={"reasoning_tokens": 500})
_ERROR = Write(event({"error": {"message": "Overloaded, as planned.", "code": "overloaded"}}))


def _slowly(steps: list[Step], seconds: float = 0.02) -> list[Step]:
    return [each for step in steps for each in (step, Pause(seconds))]


def _call_chunks() -> list[Step]:
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "count", "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": word}} for word in WORDS]
    return [Write(event(document({"tool_calls": [call]})), 1) for call in (first, *rest)]


_SLOW = [
    # They do not end by themselves: on a busy machine that can come before the proxy has left.
    Behaviour("slow", [*_slowly(words() * 50), Pause(60)], _ANY),
    Behaviour("quick", [*_slowly(words() * 500, 0.001), Pause(60)], _ANY),
    Behaviour("tools", [*_slowly(_call_chunks()), Pause(60)], _ANY),
    Behaviour(
        "reasoning",
        [*_slowly([Write(event(document({"reasoning_content": word})), 1) for word in WORDS]), Pause(60)],
        _ANY,
    ),
    Behaviour("before-head", [Pause(4), *words(), finish(), usage_chunk(openai_usage()), DONE], _ANY),
    Behaviour("before-first", [Write(event(document({"role": "assistant", "content": ""}))), Pause(60)], _ANY),
    Behaviour("late-usage", [*words(), finish(), Pause(0.3), usage_chunk(_HIDDEN), DONE], _ANY),
    Behaviour("no-usage-ever", [*words(), finish(), Pause(60)], _ANY),
    Behaviour("hangs", [*_slowly(words(7)), Pause(60)], _ANY),
    Behaviour("never-answers", [Pause(60)], _ANY),
    Behaviour("drops", [*_slowly(words(7)), End("rst")], _ANY),
    Behaviour("errs", [*_slowly(words(7)), _ERROR, Pause(0.1)], _ANY),
    Behaviour("role-then-drops", [Write(event(document({"role": "assistant"}))), Pause(0.1), End("rst")], _ANY),
    next(each for each in WHOLES if each.name == "whole-good").but(name="json"),
]
_ALL = [*_SLOW, *REFUSALS, Behaviour("good", [*words(), finish(), usage_chunk(openai_usage()), DONE], _ANY)]


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    with litellm_world(litellm_python, _ALL, tmp_path_factory.mktemp("litellm")) as world:
        yield world


@pytest.fixture
def payer(request: pytest.FixtureRequest) -> str:
    """A customer of the test's own."""
    return f"c-{request.node.name}"[:128]


def _leave(
    world: LiteLLMWorld, payer: str, name: str, *, after: int = TOKENS, at_finish: bool = False
) -> dict[str, Any]:
    """Read that many chunks with output, or to the finish reason, and leave; returns the end of the stream."""
    asked = {"model": f"openai/gpt-4o:{name}", "messages": MESSAGES, "user": payer}
    with world.client() as client, client.chat.completions.create(**asked, stream=True) as answer:
        taken = 0
        for chunk in answer if after or at_finish else ():
            delta = chunk.choices[0].delta.model_dump(exclude_none=True) if chunk.choices else {}
            taken += any(delta.get(field) for field in ("content", "tool_calls", "reasoning_content"))
            if (chunk.choices and chunk.choices[0].finish_reason) or (taken == after and not at_finish):
                break
    [stream] = world.streams_of(payer)
    return stream.ended


@pytest.mark.parametrize("after", range(11))
def test_a_cancel_at_any_token_is_billed_as_written(proxy: LiteLLMWorld, payer: str, after: int) -> None:
    ended = _leave(proxy, payer, "slow", after=after)
    record = proxy.upstream.last("slow")
    eventually(lambda: record.disconnected, what="the upstream notices")
    billed = ended.get("usage", {"output_tokens": 0})["output_tokens"]
    assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "gateway_count")
    assert after <= billed <= record.tokens_written <= billed + 1


@pytest.mark.parametrize("after", [1, 2, 5, 13, 34])
def test_of_a_quick_upstream_no_more_is_billed_than_written(proxy: LiteLLMWorld, payer: str, after: int) -> None:
    ended = _leave(proxy, payer, "quick", after=after)
    record = proxy.upstream.last("quick")
    eventually(lambda: record.disconnected, what="the upstream notices")
    assert ended["outcome"] == "cancelled"
    assert after <= ended["usage"]["output_tokens"] <= record.tokens_written


@pytest.mark.parametrize("name", ["tools", "reasoning"])
def test_cancelled_tool_calls_and_reasoning_are_counted(proxy: LiteLLMWorld, payer: str, name: str) -> None:
    ended = _leave(proxy, payer, name, after=10)
    record = proxy.upstream.last(name)
    eventually(lambda: record.disconnected, what="the upstream notices")
    assert ended["outcome"] == "cancelled"
    assert 10 <= ended["usage"]["output_tokens"] <= record.tokens_written


def test_the_usage_is_waited_for_when_the_client_leaves_at_the_finish_reason(
    proxy: LiteLLMWorld, payer: str
) -> None:
    ended = _leave(proxy, payer, "late-usage", at_finish=True)
    assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
    assert ended["usage"] == counted(520, reasoning_output_tokens=500)


def test_the_wait_for_the_usage_is_short(proxy: LiteLLMWorld, payer: str) -> None:
    began = time.monotonic()
    ended = _leave(proxy, payer, "no-usage-ever", at_finish=True)
    assert time.monotonic() - began < 20
    assert (ended["outcome"], ended["usage_source"], ended["usage"]) == ("cancelled", "gateway_count", counted())


def test_a_client_that_leaves_before_the_first_token_has_a_start_and_an_end(
    proxy: LiteLLMWorld, payer: str
) -> None:
    post_and_leave(proxy, "before-head", payer, stream=True)
    [stream] = proxy.streams_of(payer)
    assert stream.began["model"] == "gpt-4o:before-head"
    assert stream.ended["outcome"] == "cancelled"
    # LiteLLM waits for the first token before it looks whether its client is there.
    assert stream.ended["usage"]["output_tokens"] <= proxy.upstream.last("before-head").tokens_written


def test_an_unstreamed_answer_goes_on_without_its_client_and_is_billed_in_full(
    proxy: LiteLLMWorld, payer: str
) -> None:
    post_and_leave(proxy, "json", payer, stream=False)
    [stream] = proxy.streams_of(payer)
    assert (stream.ended["outcome"], stream.ended["usage_source"]) == ("completed", "provider")
    assert stream.ended["usage"] == counted()


def _read_all(client: openai.OpenAI, name: str, payer: str, **options: Any) -> None:
    asked = {"model": f"openai/gpt-4o:{name}", "messages": MESSAGES, "user": payer, **options}
    list(client.chat.completions.create(**asked, stream=True))


@pytest.mark.parametrize("name", ["drops", "errs"])
def test_a_stream_that_breaks_is_billed_for_what_came(proxy: LiteLLMWorld, payer: str, name: str) -> None:
    with proxy.client() as client, pytest.raises(openai.APIError):
        _read_all(client, name, payer)
    [stream] = proxy.streams_of(payer)
    assert (stream.ended["outcome"], stream.ended["usage_source"]) == ("failed", "gateway_count")
    assert stream.ended["usage"] == counted(7)


@pytest.mark.parametrize(("name", "output"), [("hangs", 7), ("never-answers", None)])
def test_a_stream_that_times_out_is_billed_for_what_came(
    proxy: LiteLLMWorld, payer: str, name: str, output: int | None
) -> None:
    with proxy.client() as client, pytest.raises(openai.APIError):
        _read_all(client, name, payer, extra_body={"timeout": 2})
    [stream] = proxy.streams_of(payer)
    assert stream.ended["outcome"] == "timed_out"
    assert stream.ended.get("usage") == (None if output is None else counted(output))


@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_refused_request_is_a_failed_stream_without_a_bill(
    proxy: LiteLLMWorld, payer: str, status: int, streaming: bool
) -> None:
    with proxy.client() as client, pytest.raises(openai.APIStatusError):
        client.chat.completions.create(
            model=f"openai/gpt-4o:refused-{status}", messages=MESSAGES, user=payer, stream=streaming
        )
    [stream] = proxy.streams_of(payer)
    assert stream.ended["outcome"] == "failed"
    assert "usage" not in stream.ended


@pytest.mark.parametrize("streaming", [True, False])
def test_a_fallback_to_another_provider_is_a_stream_of_its_own(
    proxy: LiteLLMWorld, payer: str, streaming: bool
) -> None:
    model = "falls" if streaming else "falls-whole"
    with proxy.client() as client:
        answer = client.chat.completions.create(model=model, messages=MESSAGES, user=payer, stream=streaming)
        if streaming:
            assert "".join(c.choices[0].delta.content or "" for c in answer if c.choices)
    first, second = proxy.streams_of(payer, count=2)
    assert (first.began["provider"], first.ended["outcome"]) == ("openai", "failed")
    assert "usage" not in first.ended
    assert (second.began["provider"], second.began["model"][:8]) == ("deepseek", "deepseek")
    assert (second.ended["outcome"], second.ended["usage"]) == ("completed", counted())
    assert first.began["request_hash"] == second.began["request_hash"]


def test_a_fallback_amid_a_stream_is_a_stream_of_its_own(proxy: LiteLLMWorld, payer: str) -> None:
    with proxy.client() as client:
        answer = client.chat.completions.create(model="breaks", messages=MESSAGES, user=payer, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in answer if c.choices)
    first, second = proxy.streams_of(payer, count=2)
    assert first.ended["outcome"] == "failed"
    assert (second.began["provider"], second.ended["outcome"]) == ("deepseek", "completed")
    assert (second.ended["usage"], second.ended["usage_source"]) == (counted(), "estimate")
    assert first.began["request_hash"] == second.began["request_hash"]


def test_each_retry_of_the_same_deployment_is_a_stream_of_its_own(proxy: LiteLLMWorld, payer: str) -> None:
    with proxy.client() as client, pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="repeats", messages=MESSAGES, user=payer, stream=True)
    streams = proxy.streams_of(payer, count=2)
    assert len({stream.began["request_hash"] for stream in streams}) == 1
    assert all(stream.ended["outcome"] == "failed" and "usage" not in stream.ended for stream in streams)
