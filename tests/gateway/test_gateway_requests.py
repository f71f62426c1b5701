"""What the gateway refuses by itself, and the small endpoints around completions."""

import socket
from typing import Any

import httpx2
import openai
import pytest

from metering.gateway.problems import RefusedError
from metering.gateway.requests import MAX_BODY_BYTES, parse_tags
from tests.gateway.asking import MESSAGES, scenario, stream
from tests.gateway.world import KEY, World

_ASKED: Any = {"model": "claude-opus-4.7", "messages": MESSAGES}


def _post(world: World, *, content: bytes, **headers: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {KEY}", **headers}
    return httpx2.post(f"{world.gateway_url}/v1/chat/completions", content=content, headers=headers, timeout=30)


def test_a_wrong_key_is_refused_and_nothing_goes_upstream(world: World) -> None:
    before = len(world.sent())
    with world.client(api_key="gk_wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(**_ASKED)
    assert caught.value.code == "invalid_api_key"
    assert len(world.sent()) == before


def test_a_request_without_a_key_is_refused(world: World) -> None:
    assert httpx2.post(f"{world.gateway_url}/v1/chat/completions", content=b"{}", timeout=60).status_code == 401
    assert httpx2.get(f"{world.gateway_url}/v1/models", timeout=60).status_code == 401
    basic = {"authorization": f"Basic {KEY}"}
    assert httpx2.get(f"{world.gateway_url}/v1/models", headers=basic, timeout=60).status_code == 401


def test_an_unknown_model_is_not_found_and_not_metered(world: World, client: openai.OpenAI) -> None:
    starts = len(world.sink.events)
    with pytest.raises(openai.NotFoundError) as caught:
        stream(client, model="llama-unknown")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "x-metering-stream-id" not in caught.value.response.headers
    assert len(world.sink.events) == starts


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{not json", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b"", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"messages": []}', "invalid_model"),
        (b'{"model": 7}', "invalid_model"),
        (b'{"model": "claude-\\u0000"}', "invalid_model"),
        (b'{"model": "claude-' + b"x" * 300 + b'"}', "invalid_model"),
    ],
)
def test_a_body_that_is_no_request_is_refused(world: World, body: bytes, code: str) -> None:
    response = _post(world, content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    response = _post(world, content=b"x" * (MAX_BODY_BYTES + 1))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


def test_tags_are_validated(world: World) -> None:
    for bad in ("novalue", "=x", "a=1,a=2", ",".join(f"k{n}=v" for n in range(17)), "k=" + "v" * 1_025):
        response = _post(world, content=b"{}", **{"x-metering-tags": bad})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_tags")
    with pytest.raises(RefusedError):
        parse_tags("a")
    assert parse_tags(" team = ink ,job=a=b,, empty=") == {"team": "ink", "job": "a=b", "empty": ""}


def test_the_models_endpoint_names_what_the_configuration_names(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["gpt-5.5-pro", "unreachable"]
    assert client.models.retrieve("claude-opus-4.7").owned_by == "anthropic"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("llama-unknown")


def test_unknown_paths_and_methods_answer_in_the_same_shape(world: World) -> None:
    assert httpx2.get(f"{world.gateway_url}/livez", timeout=60).json() == {"status": "ok"}
    missing = httpx2.get(f"{world.gateway_url}/v1/nowhere", timeout=60)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = httpx2.get(f"{world.gateway_url}/v1/chat/completions", timeout=60)
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")


def test_a_client_that_leaves_while_sending_is_no_stream(world: World, client: openai.OpenAI) -> None:
    port = int(world.gateway_url.rsplit(":", 1)[1])
    headers = f"host: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 900\r\n\r\n"
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{headers}"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + b'{"model": "claude')
    assert stream(client, headers=scenario(tokens=3)).text


def test_the_demo_upstream_refuses_a_scenario_it_does_not_know(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'colour' is not one of"):
        stream(client, headers=scenario(colour="red"))
