"""The gateway as a process: signals, workers, clients that do not read, and what a crash leaves."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.emitter.sink import IngestSink, RunningServer, eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    TEXT,
    TOKENS,
    Behaviour,
    Expected,
    Pause,
    Write,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.hostile.upstream import HostileUpstream
from tests.gateway.process import GatewayProcess, gateway_process
from tests.gateway.world import KEY

pytestmark = pytest.mark.long

_ANY = Expected(usage=None)
_LONG = [each for step in words() * 400 for each in (step, Pause(0.02))]
_FLOOD = [Write(b": " + b"x" * 65_536 + b"\n\n")] * 3_000
_BEHAVIOURS = [
    Behaviour("good", [*words(), finish(), usage_chunk(openai_usage()), DONE], _ANY),
    Behaviour("paused", [*words(), Pause(0.5), finish(), usage_chunk(openai_usage()), DONE], _ANY),
    Behaviour("long", _LONG, _ANY),
    Behaviour("flood", [*words(3), *_FLOOD], _ANY),
    Behaviour("key", [Write(b'{"error":{"message":"bad key sk-secret"}}')], _ANY, status=401, framing="length",
              content_type="application/json"),
]  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[HostileUpstream]:
    with HostileUpstream(_BEHAVIOURS) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def sink() -> Iterator[IngestSink]:
    sink = IngestSink()
    with RunningServer(sink.app) as server:
        sink.url = server.url
        yield sink


@pytest.fixture(scope="module")
def gateway(
    upstream: HostileUpstream, sink: IngestSink, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = {"sink_url": sink.url, "upstream_url": upstream.url, "stall_seconds": "0.5"}
    with gateway_process(folder, **settings) as running:
        yield running


def _client(gateway: GatewayProcess, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=60)


def _ask(gateway: GatewayProcess, name: str, key: str = KEY) -> tuple[str, str]:
    """The stream's id and its text."""
    with _client(gateway, key) as client:
        answer = client.chat.completions.create(model=f"gpt-4o:{name}", messages=MESSAGES, stream=True)
        text = "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices)
        return answer.response.headers["x-metering-stream-id"], text


def _ended(sink: IngestSink, stream_id: str) -> dict[str, Any]:
    eventually(lambda: f"{stream_id}:end" in sink.events, what="the stream ends")
    return dict(sink.events[f"{stream_id}:end"]["data"])


def _raw_request(name: str, *, key: str = KEY, http: str = "1.1") -> bytes:
    body = json.dumps({"model": f"gpt-4o:{name}", "stream": True, "messages": MESSAGES}).encode()
    head = f"POST /v1/chat/completions HTTP/{http}\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    connection.settimeout(30)
    while data := connection.recv(65_536):
        received += data
    return received


def _stream_id(answer: bytes) -> str:
    return answer.partition(b"x-metering-stream-id: ")[2][:32].decode()


@pytest.mark.parametrize("name", ["good", "paused"])
def test_a_client_that_closes_only_its_own_side_gets_its_answer(
    gateway: GatewayProcess, sink: IngestSink, name: str
) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(_raw_request(name))
        connection.shutdown(socket.SHUT_WR)
        answer = _read_all(connection)
    assert answer.count(b'"content"') == TOKENS
    assert b"data: [DONE]" in answer
    assert _ended(sink, _stream_id(answer))["outcome"] == "completed"


def test_a_client_that_closes_is_noticed_within_milliseconds(
    gateway: GatewayProcess, sink: IngestSink, upstream: HostileUpstream
) -> None:
    took = []
    for _ in range(7):
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(_raw_request("long"))
            answer = b""
            while b'"content"' not in answer:
                answer += connection.recv(65_536)
        began = time.perf_counter()
        record = upstream.last("long")
        eventually(lambda: record.disconnected, what="the upstream notices")  # noqa: B023
        took.append(time.perf_counter() - began)
        ended = _ended(sink, _stream_id(answer))
        assert (ended["outcome"], ended["usage"]["output_tokens"]) == ("cancelled", record.tokens_written)
    assert sorted(took)[3] < 1.0


def test_a_client_that_does_not_read_is_disconnected_and_billed(gateway: GatewayProcess, sink: IngestSink) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(_raw_request("flood"))
        answer = connection.recv(1_024)
        ended = _ended(sink, _stream_id(answer))
        assert (ended["outcome"], ended["error_type"]) == ("cancelled", "client_stalled")
        assert ended["usage"]["output_tokens"] == 3
        eventually(lambda: gateway.metric("metering_gateway_open_streams") == 0, what="nothing is held")
    assert gateway.metric('metering_gateway_problems_total{kind="stalled_client"}') >= 1
    assert "has stopped reading" in gateway.log


def test_a_refused_key_of_the_gateway_is_no_fault_of_the_client(gateway: GatewayProcess) -> None:
    with pytest.raises(openai.InternalServerError, match="gateway's own credentials") as caught:
        _ask(gateway, "key")
    assert caught.value.status_code == 502
    assert "sk-secret" not in str(caught.value)
    assert gateway.metric('metering_gateway_problems_total{kind="upstream_key"}') >= 1
    assert "check api_key of the upstream openai" in gateway.log


def test_readiness_and_metrics_are_served(gateway: GatewayProcess) -> None:
    _ask(gateway, "good")
    assert httpx2.get(f"{gateway.url}/readyz", timeout=60).json() == {"status": "ok"}
    assert gateway.metric('metering_gateway_streams_total{outcome="completed"}') >= 1
    assert gateway.metric("metering_gateway_chunks_total") >= TOKENS
    assert gateway.metric("metering_gateway_emitter_emitted_total") >= 2
    assert gateway.metric("metering_gateway_emitter_dropped_total") == 0


def test_keys_and_upstreams_are_reloaded_while_streams_go_on(
    upstream: HostileUpstream, sink: IngestSink, tmp_path: Path
) -> None:
    with (
        gateway_process(tmp_path, sink_url=sink.url, upstream_url=upstream.url) as gateway,
        socket.create_connection(("127.0.0.1", gateway.port)) as connection,
    ):
        connection.sendall(_raw_request("long"))
        connection.recv(1_024)
        gateway.config.write_text("nonsense = [")
        gateway.signal(signal.SIGHUP)
        eventually(lambda: "the old one stays in use" in gateway.log, what="the file is refused")
        assert _ask(gateway, "good")[1] == TEXT
        gateway.write_config(upstream.url, key="gk_new")
        gateway.signal(signal.SIGHUP)
        eventually(lambda: "reloaded 1 upstreams and 1 keys" in gateway.log, what="the file is read")
        assert _ask(gateway, "good", key="gk_new")[1] == TEXT
        with pytest.raises(openai.AuthenticationError):
            _ask(gateway, "good")
        assert connection.recv(1_024), "the stream goes on"


def test_sigterm_ends_streams_within_the_grace_with_an_error_that_the_client_sees(
    upstream: HostileUpstream, sink: IngestSink, tmp_path: Path
) -> None:
    errors: list[Exception] = []

    def listen(gateway: GatewayProcess) -> None:
        try:
            _ask(gateway, "long")
        except openai.APIError as error:
            errors.append(error)

    with gateway_process(
        tmp_path, sink_url=sink.url, upstream_url=upstream.url, grace_seconds="1", source="/gateways/term"
    ) as gateway:
        listener = threading.Thread(target=listen, args=(gateway,))
        listener.start()
        eventually(lambda: gateway.metric("metering_gateway_chunks_total") > 0, what="the stream runs")
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            stalled.connect(("127.0.0.1", gateway.port))
            stalled.sendall(_raw_request("flood"))
            stalled.recv(1_024)
            began = time.monotonic()
            gateway.signal(signal.SIGTERM)
            gateway.process.wait(60)
            took = time.monotonic() - began
        listener.join(30)
    assert took < 20
    assert gateway.process.returncode in (0, -signal.SIGTERM)
    assert "restarting" in str(errors[0])
    assert "Traceback" not in gateway.log
    ends = [
        each
        for each in sink.events.values()
        if each["source"] == "/gateways/term" and each["type"] == "stream-end"
    ]
    assert [(end["data"]["outcome"], end["data"]["error_type"]) for end in ends] == [
        ("failed", "gateway_shutdown")
    ] * 2


def test_a_start_is_on_disk_before_the_upstream_is_asked(upstream: HostileUpstream, tmp_path: Path) -> None:
    """Killed as soon as the upstream has the request, the gateway leaves the start for its successor."""
    sink = IngestSink()
    for _ in range(3):
        asked = len(upstream.records.get("long", ()))
        with gateway_process(tmp_path, sink_url="http://127.0.0.1:9", upstream_url=upstream.url) as gateway:
            with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
                connection.sendall(_raw_request("long"))
                eventually(lambda: len(upstream.records.get("long", ())) > asked, what="the upstream is asked")  # noqa: B023
                gateway.signal(signal.SIGKILL)
            gateway.process.wait(60)
    with (
        RunningServer(sink.app) as server,
        gateway_process(tmp_path, sink_url=server.url, upstream_url=upstream.url),
    ):
        eventually(lambda: len(sink.events) >= 3, what="the starts arrive")
    assert sum(each["type"] == "stream-start" for each in sink.events.values()) == 3


def test_workers_share_one_port_and_are_replaced(
    upstream: HostileUpstream, sink: IngestSink, tmp_path: Path
) -> None:
    with gateway_process(
        tmp_path, sink_url=sink.url, upstream_url=upstream.url, arguments=("--workers", "2")
    ) as gateway:
        spools = list((tmp_path / "spool").glob("*-*"))
        eventually(lambda: len(list((tmp_path / "spool").glob("*-*"))) == 2, what="both start")
        for _ in range(6):
            assert _ask(gateway, "good")[1] == TEXT
        assert gateway.metric('metering_gateway_streams_total{outcome="completed"}') == 6
        worker = int(next(path.name.partition("-")[0] for path in spools))
        httpx2.get(f"{gateway.url}/livez", timeout=60)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: "starting another" in gateway.log, what="the dead worker is replaced")
        eventually(lambda: gateway.log.count(" serves\n") == 3, what="the new one serves")
        for _ in range(6):
            assert _ask(gateway, "good")[1] == TEXT
    assert gateway.log.count(f"the gateway listens on {gateway.url}, processes: 2\n") == 1
    assert gateway.process.returncode == 0
    assert "Traceback" not in gateway.log
