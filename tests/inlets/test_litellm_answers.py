"""A real LiteLLM proxy in front of the table of hostile upstreams: one start, one end, and the right bill."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile import ends, framings, texts, usages
from tests.gateway.hostile.behaviours import Behaviour
from tests.inlets.litellm_proxy import LiteLLMWorld, litellm_world, proxy_model

pytestmark = pytest.mark.long

# LiteLLM fails to write this answer, and forgets its iterator without closing it.
_FORGOTTEN = "text-surrogate-pair-cut"
_EVERY = [*usages.BEHAVIOURS, *texts.BEHAVIOURS, *framings.BEHAVIOURS, *ends.BEHAVIOURS]
_ALL = [behaviour for behaviour in _EVERY if behaviour.name != _FORGOTTEN]

# Where LiteLLM tells less than an upstream has written, and what is billed then: output, source and outcome.
_COUNTED, _NONE = (20, "gateway_count", "completed"), (None, "gateway_count", "completed")
_FAILED, _BROKEN = (None, None, "failed"), (20, "gateway_count", "failed")
_LESS = {
    # LiteLLM does not read a usage there.
    "place-x-groq-own-chunk": _COUNTED,
    "place-choice": _COUNTED,
    "place-delta": _COUNTED,
    "place-after-done": _COUNTED,
    "names-gemini": (20, "estimate", "completed"),
    "names-gemini-hidden": (20, "provider", "completed"),
    # LiteLLM fails on such a usage, or reads `true` as 1.
    "doubt-fraction": _BROKEN,
    "doubt-word": _BROKEN,
    "doubt-nan": _BROKEN,
    "doubt-boolean": (1, "provider", "completed"),
    # LiteLLM drops such output: its client does not get it, and a callback does not see it.
    "text-parts": _NONE,
    "text-thinking-parts": _NONE,
    "text-reasoning-details": _NONE,
    "text-thinking": _NONE,
    "text-refusal": _NONE,
    "text-nan-logprobs": _NONE,
    "text-tool-call-object": (10, "gateway_count", "completed"),
    # LiteLLM fails while it reads or writes the answer.
    "text-surrogate-pair-cut": (3, "gateway_count", "cancelled"),
    "text-unreadable": (10, "gateway_count", "failed"),
    "text-array": _FAILED,
    "framing-empty-data": _FAILED,
    "framing-odd-headers": _FAILED,
    "framing-gzip-members": (5, "gateway_count", "failed"),
    "cut-whole-event-without-end": (10, "gateway_count", "failed"),
    "cut-one-of-two-unfinished": _COUNTED,
    "cut-second-never-began": (10, "gateway_count", "completed"),
    "whole-to-a-stream": _FAILED,
    "whole-lines-to-a-stream": _FAILED,
    "whole-parts": _FAILED,
    "whole-events-to-no-stream": _FAILED,
    "whole-garbage": _FAILED,
    "whole-unknown-encoding": _FAILED,
}
# What LiteLLM had not read when the connection broke is lost to its client and to us: how much is up to chance.
_CUT = {
    "cut-fin",
    "cut-rst",
    "cut-fin-in-an-event",
    "cut-fin-in-an-event-length",
    "cut-error-event",
    "cut-after-finish",
    "cut-after-finish-and-usage",
    "cut-after-finish-with-usage",
    "cut-after-done",
}


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    with litellm_world(litellm_python, _EVERY, tmp_path_factory.mktemp("litellm")) as world:
        yield world


def _ask(world: LiteLLMWorld, behaviour: Behaviour, payer: str) -> str:
    """The text that the client has got."""
    asked = {"model": proxy_model(behaviour), "messages": MESSAGES, "user": payer, **behaviour.request}
    text = ""
    with world.client() as client:
        try:
            if asked.pop("stream", True) is False:
                return str(client.chat.completions.create(**asked).choices[0].message.content or "")
            for chunk in client.chat.completions.create(**asked, stream=True):
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        except openai.APIError:
            pass
    return text


@pytest.mark.parametrize("behaviour", _ALL, ids=lambda behaviour: behaviour.name)
def test_each_answer_has_one_start_one_end_and_its_bill(proxy: LiteLLMWorld, behaviour: Behaviour) -> None:
    payer = f"c-{behaviour.name}"
    _ask(proxy, behaviour, payer)
    [stream] = proxy.streams_of(payer)
    ended, expected = stream.ended, behaviour.expected
    usage = ended.get("usage")
    written = proxy.upstream.last(behaviour.name).tokens_written
    if behaviour.name in _CUT:
        assert ended["outcome"] in ("failed", expected.outcome)
        assert usage is None or usage["output_tokens"] <= written
    elif behaviour.name in _LESS:
        billed = usage.get("output_tokens") if usage else None
        assert (billed, ended.get("usage_source"), ended["outcome"]) == _LESS[behaviour.name]
    else:
        assert (usage, ended.get("usage_source")) == (expected.usage, expected.source)
        assert ended["outcome"] == expected.outcome
    assert stream.began["provider"] in ("openai", "x-ai")
    assert len(proxy.upstream.records[behaviour.name]) == 1, "the upstream is asked once"
    assert "not metered" not in proxy.log.read_text()


def test_most_of_the_table_is_billed_as_by_the_reference_gateway() -> None:
    assert len(_ALL) - len(_LESS) - len(_CUT) >= 140


def test_an_answer_that_litellm_forgets_has_a_start_and_is_left_to_the_service(proxy: LiteLLMWorld) -> None:
    [forgotten] = [behaviour for behaviour in _EVERY if behaviour.name == _FORGOTTEN]
    assert _ask(proxy, forgotten, "c-forgotten") == "", "its client gets an error"
    eventually(lambda: kinds_of(proxy, "c-forgotten") == {"stream-start"}, what="the start arrives")


def kinds_of(proxy: LiteLLMWorld, payer: str) -> set[str]:
    return {event["type"] for event in list(proxy.sink.events.values()) if event["subject"] == payer}
