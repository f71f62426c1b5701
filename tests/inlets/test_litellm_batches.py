"""A real LiteLLM proxy with a batch: its usage comes hours later, and is not a stream's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.emitter.sink import RunningServer
from tests.inlets.litellm_proxy import LiteLLMWorld, litellm_world

pytestmark = pytest.mark.long

_USAGE = {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18}
_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Ledgers."}, "finish_reason": "stop"}],
    "usage": _USAGE,
}
_RESULT = {"custom_id": "a", "response": {"status_code": 200, "body": _CHAT}, "error": None}


def _batch(status: str) -> dict[str, Any]:
    return {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-in",
        "output_file_id": "file-out" if status == "completed" else None,
        "completion_window": "24h",
        "status": status,
        "created_at": 1,
        "request_counts": {"total": 1, "completed": 1, "failed": 0},
    }


async def _created(_: Request) -> Response:
    return JSONResponse(_batch("validating"))


async def _found(_: Request) -> Response:
    return JSONResponse(_batch("completed"))


async def _output(_: Request) -> Response:
    return Response(json.dumps(_RESULT) + "\n", media_type="application/jsonl")


async def _completion(_: Request) -> Response:
    return JSONResponse(_CHAT)


UPSTREAM = Starlette(
    routes=[
        Route("/v1/batches", _created, methods=["POST"]),
        Route("/v1/batches/{batch_id}", _found),
        Route("/v1/files/{file_id}/content", _output),
        Route("/v1/chat/completions", _completion, methods=["POST"]),
    ]
)


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    with RunningServer(UPSTREAM) as upstream:
        base = f"{upstream.url}/v1"
        given = {"model": "openai/gpt-4o", "api_base": base, "api_key": "sk-upstream"}
        config = {
            "model_list": [{"model_name": "gpt-4o", "litellm_params": given}],
            "litellm_settings": {"callbacks": ["metering.inlets.litellm.proxy_logger"]},
        }
        more: dict[str, Any] = {"OPENAI_BASE_URL": base, "OPENAI_API_KEY": "sk-upstream"}
        folder = tmp_path_factory.mktemp("litellm")
        with litellm_world(litellm_python, [], folder, config=config, **more) as world:
            yield world


def test_a_batch_is_no_stream_however_often_it_is_looked_at(proxy: LiteLLMWorld) -> None:
    client = proxy.client(default_headers={"x-litellm-end-user-id": "c-batch"})
    chosen: dict[str, Any] = {"custom_llm_provider": "openai"}
    batch = client.batches.create(
        input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h", extra_body=chosen
    )
    for _ in range(3):
        assert client.batches.retrieve(batch.id, extra_query=chosen).status == "completed"
    # What comes after it shows that nothing of the batch is on its way.
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
    [stream] = proxy.streams_of("c-batch")
    assert (stream.began["operation"], stream.ended["usage"]["output_tokens"]) == ("chat", 11)
    assert "not metered" not in proxy.log.read_text()


def test_a_batch_that_is_refused_is_none_either(proxy: LiteLLMWorld) -> None:
    client = proxy.client(default_headers={"x-litellm-end-user-id": "c-refused"})
    with pytest.raises(openai.APIError):
        client.batches.create(
            input_file_id="file-in",
            endpoint="/v1/chat/completions",
            completion_window="24h",
            extra_body={"custom_llm_provider": "nobody"},
        )
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
    [stream] = proxy.streams_of("c-refused")
    assert stream.began["operation"] == "chat"
