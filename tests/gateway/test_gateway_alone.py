"""The gateway without its metering API, and when it is stopped."""

import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from metering.emitter.sent import sent_files
from tests.emitter.sink import IngestSink, RunningServer, eventually, free_port
from tests.gateway.asking import MESSAGES, scenario, stream
from tests.gateway.world import KEY, demo_upstream, running_gateway, settings_of


def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=30)


def test_completions_go_on_while_metering_is_down_and_arrive_later(demo_url: str, tmp_path: Path) -> None:
    port = free_port()
    settings = settings_of(
        sink_url=f"http://127.0.0.1:{port}", spool=tmp_path, upstreams=(demo_upstream(demo_url, "*"),)
    )
    sink = IngestSink()
    with running_gateway(settings) as gateway, _client(gateway.url) as client:
        answers = [stream(client, headers=scenario(tokens=20)) for _ in range(5)]
        assert all(answer.text for answer in answers)
        with RunningServer(sink.app, port=port):
            for answer in answers:
                eventually(lambda: f"{answer.stream_id}:end" in sink.events, what="the end arrives")  # noqa: B023
                assert f"{answer.stream_id}:start" in sink.events
    assert sent_files(tmp_path), "they are kept for a server that is restored from a backup"


def test_a_gateway_that_is_stopped_ends_its_streams(demo_url: str, tmp_path: Path) -> None:
    sink = IngestSink()
    began = threading.Event()
    stream_ids: list[str] = []

    def read_on(answer: openai.Stream[Any]) -> None:
        for number, _ in enumerate(answer):
            if number == 20:
                began.set()

    def listen(url: str) -> None:
        with _client(url) as client:
            answer = client.chat.completions.create(
                model="gpt-5", messages=MESSAGES, stream=True, extra_headers=scenario(tokens=100_000)
            )
            stream_ids.append(answer.response.headers["x-metering-stream-id"])
            with pytest.raises(openai.APIError):
                read_on(answer)

    with RunningServer(sink.app) as sink_server:
        upstreams = (demo_upstream(demo_url, "*"),)
        settings = settings_of(sink_url=sink_server.url, spool=tmp_path, upstreams=upstreams)
        with running_gateway(settings) as gateway:
            listener = threading.Thread(target=listen, args=(gateway.url,))
            listener.start()
            assert began.wait(10)
        listener.join(10)
        ended = sink.events[f"{stream_ids[0]}:end"]["data"]
    assert (ended["outcome"], ended["error_type"]) == ("failed", "gateway_shutdown")
    assert ended["usage"]["output_tokens"] >= 20
