"""Upstreams that do odd things, and what becomes of the stream."""

import json

import httpx2
import openai
import pytest

from metering.answers.tokens import counter_for
from tests.gateway.asking import MESSAGES, stream
from tests.gateway.world import KEY, World


def _post(world: World, document: dict[str, object], **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{world.gateway_url}/v1/chat/completions",
        content=json.dumps(document),
        headers={"authorization": f"Bearer {KEY}", **headers},
        timeout=30,
    )


def _ended(world: World, response: httpx2.Response) -> dict[str, object]:
    return world.events(response.headers["x-metering-stream-id"]).ended


def test_events_in_single_bytes_come_out_as_they_were(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, model="odd-bytewise")
    assert answer.text == "Sieben Kisten — 🌊"
    ended = world.events(answer.stream_id).ended
    assert ended["outcome"] == "completed"
    assert ended["usage"]["output_tokens"] == counter_for(model="odd").count("Sieben Kisten — 🌊")


def test_the_bytes_of_an_answer_pass_unchanged(world: World) -> None:
    response = _post(world, {"model": "odd-bytewise", "messages": MESSAGES, "stream": True})
    assert b": ping\r\n\r\n" in response.content
    assert response.content.endswith(b"data:[DONE]\n\n")


def test_a_finish_reason_and_a_clean_end_complete_without_done(world: World, client: openai.OpenAI) -> None:
    ended = world.events(stream(client, model="odd-no-done").stream_id).ended
    assert (ended["outcome"], ended["finish_reasons"]) == ("completed", ["stop"])


def test_an_answer_that_ends_without_finishing_has_failed(world: World) -> None:
    response = _post(world, {"model": "odd-no-finish", "messages": MESSAGES, "stream": True})
    assert b'"code":"upstream_incomplete"' in response.content
    ended = _ended(world, response)
    assert (ended["outcome"], ended["error_type"]) == ("failed", "upstream_incomplete")
    assert ended["usage"]


def test_an_upstream_that_stays_connected_after_done_is_not_waited_for(
    world: World, client: openai.OpenAI
) -> None:
    assert world.events(stream(client, model="odd-lingers").stream_id).ended["outcome"] == "completed"


def test_keep_alives_reach_the_client_unharmed(client: openai.OpenAI) -> None:
    assert stream(client, model="odd-keep-alive").text == "Seven."


def test_usage_that_tokens_have_overtaken_is_not_believed(world: World) -> None:
    body = {"model": "odd-usage-early", "messages": MESSAGES, "stream": True}
    url, headers = f"{world.gateway_url}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=60) as response:
        next(line for line in response.iter_lines() if "five" in line)
    ended = _ended(world, response)
    assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "estimate")
    assert ended["usage"]["output_tokens"] == 5  # type: ignore[index]


def test_an_event_without_end_is_cut_off(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="an event of more than"):
        stream(client, model="odd-huge-event")


def test_a_redirect_is_never_followed(world: World) -> None:
    response = _post(world, {"model": "odd-redirect", "messages": MESSAGES})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_redirect")
    assert "location" not in response.headers
    assert _ended(world, response)["outcome"] == "failed"


def test_an_error_page_passes_through(world: World) -> None:
    response = _post(world, {"model": "odd-html-error", "messages": MESSAGES, "stream": True})
    assert (response.status_code, response.text) == (502, "<h1>Bad Gateway</h1>")
    ended = _ended(world, response)
    assert (ended["outcome"], ended["error_type"]) == ("failed", "http_502")


def test_a_completion_that_is_not_json_passes_through_as_failed(world: World) -> None:
    response = _post(world, {"model": "odd-not-json", "messages": MESSAGES})
    assert (response.status_code, response.text) == (200, "hello")
    assert _ended(world, response)["error_type"] == "upstream_invalid_json"


@pytest.mark.parametrize("model", ["odd-gzip", "odd-plain"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_whole_completion_is_metered_even_when_a_stream_was_asked_for(
    world: World, model: str, streaming: bool
) -> None:
    response = _post(world, {"model": model, "messages": MESSAGES, "stream": streaming})
    assert response.json()["usage"]["surprise"] == {"kept": True}
    ended = _ended(world, response)
    assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
    assert ended["usage"] == {"input_tokens": 11, "output_tokens": 3}


def test_the_request_goes_upstream_unchanged(world: World) -> None:
    document = {"model": "odd-plain", "messages": MESSAGES, "temperature": 1.10, "x_unknown": {"é": [1e400, None]}}
    body = json.dumps(document, indent=3).replace("Infinity", "1E+2").encode()
    headers = {"authorization": f"Bearer {KEY}", "x-upstream-scenario": "tokens=1", "cookie": "a=b"}
    response = httpx2.post(f"{world.gateway_url}/v1/chat/completions", content=body, headers=headers, timeout=60)
    assert response.status_code == 200
    assert world.odd.bodies[-1] == body
    sent = world.odd.headers[-1]
    assert sent["authorization"] == "Bearer sk-odd"
    assert not {"x-upstream-scenario", "cookie"} & set(sent), "headers are forwarded only when configured"


def test_only_the_usage_option_is_added_to_a_streamed_request(world: World) -> None:
    options = b'"n":1, "big": 1.10e2, "stream_options": {"other": 1}'
    body = b'{"model": "odd-bytewise", "stream": true, ' + options + b', "messages": []}'
    headers = {"authorization": f"Bearer {KEY}"}
    httpx2.post(f"{world.gateway_url}/v1/chat/completions", content=body, headers=headers, timeout=60)
    sent = world.odd.bodies[-1]
    assert b"1.10e2" in sent
    assert json.loads(sent)["stream_options"] == {"other": 1, "include_usage": True}
    assert {**json.loads(sent), "stream_options": None} == {**json.loads(body), "stream_options": None}
