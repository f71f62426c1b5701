"""A real LiteLLM proxy on its other endpoints: what is metered, and whose usage it is."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.hostile.behaviours import (
    DONE,
    PROMPT,
    TOKENS,
    Behaviour,
    Step,
    Write,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.hostile.ends import WHOLES
from tests.inlets.litellm_endpoints import ANY, ENDPOINTS, message_events, response_events
from tests.inlets.litellm_proxy import KEY, LiteLLMWorld, litellm_world

pytestmark = pytest.mark.long


def _without_usage(steps: list[Step]) -> list[Step]:
    return [
        dataclasses.replace(step, data=step.data.replace(b'"usage"', b'"counts"'))
        if isinstance(step, Write)
        else step
        for step in steps
    ]


_WHOLE = next(each for each in WHOLES if each.name == "whole-good")
_ALL = [
    *ENDPOINTS,
    Behaviour("good", [*words(), finish(), usage_chunk(openai_usage()), DONE], ANY),
    Behaviour("no-usage", [*words(), finish(), DONE], ANY),
    Behaviour("message-events-no-usage", _without_usage(message_events()), ANY),
    Behaviour("response-events-no-usage", _without_usage(response_events()), ANY),
    _WHOLE.but(name="json"),
    # LiteLLM passes a request through only for a model that it knows.
    next(each for each in ENDPOINTS if each.name == "message").but(name=""),
]
_MESSAGES = [f"anthropic/claude:{each.name}" for each in _ALL if each.name and "message" in each.name]
_OTHERS = ["deepseek/deepseek-chat:good", "deepseek/deepseek-chat:no-usage", "deepseek/deepseek-chat:json"]
_COMPLETIONS = ["text-completion-openai/gpt-4o:completion", "text-completion-openai/gpt-4o:completion-events"]
_MODELS = [*_MESSAGES, *_OTHERS, *_COMPLETIONS]
_CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "How did the harbour master keep his books?"}],
    "max_tokens": 99,
}
_INPUT = {"input": "How did the harbour master keep his books?"}
_STREAM = {"stream": True}


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    behaviours = [each for each in _ALL if each.name]
    with litellm_world(
        litellm_python,
        behaviours,
        tmp_path_factory.mktemp("litellm"),
        deployments=[(model, model) for model in _MODELS],
        answers=_ALL,
    ) as world:
        yield world


def _post(world: LiteLLMWorld, path: str, payer: str, **body: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {KEY}", "x-litellm-end-user-id": payer}
    return httpx2.post(f"{world.url}{path}", json=body, headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("path", "model", "body", "source"),
    [
        ("/v1/chat/completions", "anthropic/claude:message", _CHAT, "provider"),
        ("/v1/chat/completions", "anthropic/claude:message-events", _CHAT | _STREAM, "provider"),
        ("/v1/messages", "anthropic/claude:message", _CHAT, "provider"),
        ("/v1/messages", "anthropic/claude:message-events", _CHAT | _STREAM, "provider"),
        ("/v1/messages", "anthropic/claude:message-events-no-usage", _CHAT | _STREAM, "estimate"),
        ("/v1/messages", "deepseek/deepseek-chat:json", _CHAT, "estimate"),
        ("/v1/messages", "deepseek/deepseek-chat:good", _CHAT | _STREAM, "estimate"),
        ("/v1/messages", "openai/gpt-4o:response-events", _CHAT | _STREAM, "estimate"),
        ("/v1/responses", "openai/gpt-4o:response", _INPUT, "provider"),
        ("/v1/responses", "openai/gpt-4o:response-events", _INPUT | _STREAM, "provider"),
        ("/v1/responses", "openai/gpt-4o:response-events-no-usage", _INPUT | _STREAM, "estimate"),
        ("/v1/responses", "deepseek/deepseek-chat:json", _INPUT, "provider"),
        ("/v1/responses", "deepseek/deepseek-chat:good", _INPUT | _STREAM, "estimate"),
        ("/v1/responses", "deepseek/deepseek-chat:no-usage", _INPUT | _STREAM, "estimate"),
        ("/v1/completions", "text-completion-openai/gpt-4o:completion", {"prompt": "How?"}, "provider"),
        (
            "/v1/completions",
            "text-completion-openai/gpt-4o:completion-events",
            {"prompt": "How?"} | _STREAM,
            "gateway_count",
        ),
    ],
)
def test_output_is_metered_and_made_up_usage_is_not_the_providers(
    proxy: LiteLLMWorld, request: pytest.FixtureRequest, path: str, model: str, body: dict[str, Any], source: str
) -> None:
    payer = f"c-{abs(hash(request.node.name))}"
    answer = _post(proxy, path, payer, model=model, **body)
    assert answer.status_code == 200, answer.text
    [stream] = proxy.streams_of(payer)
    assert (stream.ended["outcome"], stream.ended["usage_source"]) == ("completed", source)
    assert stream.ended["usage"]["output_tokens"] == TOKENS
    if source == "provider":
        assert stream.ended["usage"]["input_tokens"] == PROMPT


@pytest.mark.parametrize(
    ("name", "tokens", "source"),
    [("embedding", PROMPT, "provider"), ("embedding-without-usage", 9, "gateway_count")],
)
def test_an_embedding_is_metered_by_its_input(proxy: LiteLLMWorld, name: str, tokens: int, source: str) -> None:
    _post(proxy, "/v1/embeddings", f"c-{name}", model=f"openai/gpt-4o:{name}", **_INPUT)
    [stream] = proxy.streams_of(f"c-{name}")
    assert (stream.began["operation"], stream.ended["usage_source"]) == ("embeddings", source)
    assert stream.ended["usage"] == {"input_tokens": tokens}


@pytest.mark.parametrize(
    ("path", "model", "body"),
    [
        ("/v1/messages", "anthropic/claude:slow-message-events", _CHAT),
        ("/v1/responses", "openai/gpt-4o:slow-response-events", _INPUT),
    ],
)
def test_a_cancel_is_billed_for_what_was_delivered(
    proxy: LiteLLMWorld, path: str, model: str, body: dict[str, Any]
) -> None:
    payer, name = f"c-cancelled-{model}", model.partition(":")[2]
    headers = {"authorization": f"Bearer {KEY}", "x-litellm-end-user-id": payer}
    document = {"model": model, **body, **_STREAM}
    with httpx2.stream("POST", f"{proxy.url}{path}", json=document, headers=headers, timeout=60) as answer:
        seen = ""
        for text in answer.iter_text():
            seen += text
            if " kept" in seen:
                break
    [stream] = proxy.streams_of(payer)
    written = proxy.upstream.last(name).tokens_written
    assert (stream.ended["outcome"], stream.ended["usage_source"] == "provider") == ("cancelled", False)
    assert 4 <= stream.ended["usage"]["output_tokens"] <= written < TOKENS


def test_a_request_that_is_passed_through_is_metered_at_its_end(proxy: LiteLLMWorld) -> None:
    answer = _post(proxy, "/anthropic/v1/messages", "c-passed", model="claude-sonnet-4-5", **_CHAT)
    assert answer.status_code == 200, answer.text
    [stream] = proxy.streams_of("c-passed")
    assert (stream.began["provider"], stream.began["model"]) == ("anthropic", "claude-sonnet-4-5")
    assert (stream.ended["usage"]["input_tokens"], stream.ended["usage"]["output_tokens"]) == (PROMPT, TOKENS)
