"""The final cost is the SDK user's to read: by the id of the stream or response, with the key that paid for it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from metering.access.scopes import Role
from metering.gateway.cost_field import whole_with_cost_field, with_cost_field
from metering.gateway.settings import Upstream
from tests.emitter.sink import RunningServer
from tests.gateway.asking import MESSAGES
from tests.gateway.world import KEY, demo_upstream, running_gateway, settings_of
from tests.running_api import Api


@pytest.fixture
def gateway_url(api: Api, demo_url: str, tmp_path: Path) -> Iterator[str]:
    """A gateway before the demo's upstream, which posts to a real API."""
    with api.client_with(Role.INGEST) as client:
        key = client.headers["authorization"].removeprefix("Bearer ")
    upstreams: tuple[Upstream, ...] = (demo_upstream(demo_url, "claude-*"),)
    settings = settings_of(sink_url=api.url, spool=tmp_path / "spool", upstreams=upstreams, ingest_key=key)
    with running_gateway(settings) as gateway:
        yield gateway.url


def generation(url: str, id: str, key: str = KEY) -> httpx2.Response:
    return httpx2.get(f"{url}/v1/generations/{id}", headers={"authorization": f"Bearer {key}"}, timeout=30)


def final(api: Api, url: str, id: str) -> dict[str, Any]:
    """The completion, once it is final."""
    until = time.monotonic() + 60
    while True:
        api.finalize()
        answer = generation(url, id)
        if answer.status_code == 200 and answer.json()["state"] == "finalized":
            shape: dict[str, Any] = answer.json()
            return shape
        assert time.monotonic() < until, answer.text
        time.sleep(0.1)


def test_the_stock_sdk_reads_the_cost_of_its_stream(api: Api, gateway_url: str) -> None:
    client = openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=KEY, max_retries=0)
    stream = client.chat.completions.create(
        model="claude-opus-4.7", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    *_, last = stream
    assert last.usage is not None
    assert last.usage.cost_usd_cents is None  # type: ignore[attr-defined]
    by_stream = final(api, gateway_url, stream.response.headers["x-metering-stream-id"])
    by_response = client.get(f"/generations/{last.id}", cast_to=object)
    assert isinstance(by_response, dict)
    assert float(by_stream["cost_usd_cents"]) > 0
    assert {**by_response, "id": ""} == {**by_stream, "id": ""}
    assert by_stream["usage"]["output_tokens"] == last.usage.completion_tokens
    charged = api.client.get("/v1/charges").json()["data"]
    assert [each["cost_usd_cents"] for each in charged] == [by_stream["cost_usd_cents"]]


def test_an_answer_in_one_piece_has_the_field_too(api: Api, gateway_url: str) -> None:
    client = openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=KEY, max_retries=0)
    answer = client.chat.completions.create(model="claude-opus-4.7", messages=MESSAGES)
    assert answer.usage is not None
    assert answer.usage.cost_usd_cents is None  # type: ignore[attr-defined]
    assert "cost_usd_cents" in answer.usage.model_fields_set
    assert final(api, gateway_url, answer.id)["outcome"] == "completed"


def test_nobody_reads_another_customers_completion(api: Api, gateway_url: str) -> None:
    client = openai.OpenAI(base_url=f"{gateway_url}/v1", api_key=KEY, max_retries=0)
    answer = client.chat.completions.create(model="claude-opus-4.7", messages=MESSAGES)
    final(api, gateway_url, answer.id)
    refused = generation(gateway_url, answer.id, key="gk_other")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "generation_not_found")
    assert generation(gateway_url, answer.id, key="gk_wrong").status_code == 401
    for odd in ("nothing", "a%2Fb", "%00", "x" * 2_000):
        assert generation(gateway_url, odd).status_code == 404


def test_without_the_metering_api_the_cost_is_not_known_and_completions_go_on(
    demo_url: str, tmp_path: Path
) -> None:
    upstreams = (demo_upstream(demo_url, "claude-*"),)
    settings = settings_of(sink_url="http://127.0.0.1:9", spool=tmp_path / "spool", upstreams=upstreams)
    with running_gateway(settings) as gateway:
        assert isinstance(gateway, RunningServer)
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)
        answer = client.chat.completions.create(model="claude-opus-4.7", messages=MESSAGES)
        away = generation(gateway.url, answer.id)
        assert (away.status_code, away.json()["error"]["code"]) == (503, "metering_unavailable")


@pytest.mark.parametrize(
    ("raw", "becomes"),
    [
        (b'{"usage":{"a":1}}', b'{"usage":{"cost_usd_cents":null,"a":1}}'),
        (b'{"usage" : { "a":1}}', b'{"usage" : {"cost_usd_cents":null, "a":1}}'),
        (b'{"usage":{}}', b'{"usage":{"cost_usd_cents":null}}'),
        (b'{"response":{"usage":{"a":1}}}', b'{"response":{"usage":{"cost_usd_cents":null,"a":1}}}'),
        (b'{"usage":null}', b'{"usage":null}'),
        (b'{"usage":{"cost_usd_cents":3}}', b'{"usage":{"cost_usd_cents":3}}'),
        (b'{"usage":{"a":1},"x":{"usage":{"b":2}}}', b'{"usage":{"a":1},"x":{"usage":{"b":2}}}'),
        (
            b'{"text":"\\"usage\\":{","usage":{"a":1}}',
            b'{"text":"\\"usage\\":{","usage":{"cost_usd_cents":null,"a":1}}',
        ),
        (b"[1]", b"[1]"),
        (b"no JSON", b"no JSON"),
    ],
)
def test_the_field_is_put_into_the_usage_and_nothing_else_changes(raw: bytes, becomes: bytes) -> None:
    assert whole_with_cost_field(raw) == becomes
    assert with_cost_field(raw, {}) == raw
