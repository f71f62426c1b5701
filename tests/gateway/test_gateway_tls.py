"""An upstream over TLS: as without, and nothing is sent to a server whose certificate is not trusted."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from metering.lab.demo.upstream import create_upstream
from metering.lab.stripe_local.app import DroppingProtocol
from tests.emitter.sink import IngestSink, RunningServer
from tests.gateway.asking import MESSAGES, scenario, stream
from tests.gateway.world import RATE, World, demo_upstream, running_gateway, settings_of
from tests.tools import need


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    made, key = folder / f"{host}.pem", folder / f"{host}.key"
    name = f"IP:{host}" if host[0].isdigit() else f"DNS:{host}"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={host}", "-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(made)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return made, key


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A gateway that trusts one certificate, before an upstream that has it and one that has another."""
    need("openssl")
    trusted, key = certificate(tmp_path, "127.0.0.1")
    other, other_key = certificate(tmp_path, "elsewhere.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    sink = IngestSink()
    options = {"http": DroppingProtocol}
    with (
        RunningServer(sink.app) as sink_server,
        RunningServer(create_upstream(rate=RATE), ssl_certfile=trusted, ssl_keyfile=key, **options) as right,
        RunningServer(create_upstream(rate=RATE), ssl_certfile=other, ssl_keyfile=other_key, **options) as wrong,
    ):
        upstreams = (
            demo_upstream(right.url.replace("http:", "https:"), "claude-*"),
            demo_upstream(wrong.url.replace("http:", "https:"), "gpt-*", provider="openai"),
        )
        settings = settings_of(sink_url=sink_server.url, spool=tmp_path / "spool", upstreams=upstreams)
        with running_gateway(settings) as gateway:
            yield World(gateway.url, right.url, sink, None)  # type: ignore[arg-type]


def test_a_stream_over_tls_is_metered_and_its_connection_kept(secure: World) -> None:
    client = secure.client()
    for _ in range(3):
        seen = stream(client)
        ended = secure.events(seen.stream_id).ended
        assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
        assert seen.text


@pytest.mark.parametrize("chunks", [1, 5, 20])
def test_a_client_that_leaves_pays_for_what_was_delivered(secure: World, chunks: int) -> None:
    headers = scenario(rate=50)
    with secure.client().chat.completions.create(
        model="claude-opus-4.7", messages=MESSAGES, stream=True, extra_headers=headers
    ) as answer:
        stream_id = answer.response.headers["x-metering-stream-id"]
        for number, _ in enumerate(answer, start=1):
            if number > chunks:
                break
    ended = secure.events(stream_id).ended
    assert ended["outcome"] == "cancelled"
    assert chunks - 1 <= ended["usage"]["output_tokens"] <= chunks + 3


def test_a_certificate_that_is_not_trusted_gets_neither_key_nor_request(secure: World) -> None:
    with pytest.raises(openai.InternalServerError, match="The upstream cannot be reached") as refused:
        secure.client().chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert refused.value.status_code == 502
