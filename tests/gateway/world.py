"""The gateway between the stock OpenAI client, the demo upstream and a sink, all over real sockets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai

from metering.gateway import GatewaySettings, create_app
from metering.gateway.settings import ClientKey, Upstream, hash_key
from tests.emitter.sink import IngestSink, RunningServer, eventually
from tests.gateway.odd_upstream import OddUpstream

KEY = "gk_test_key_of_acme"
RATE = 400.0


@dataclass(frozen=True)
class World:
    """Everything that runs."""

    gateway_url: str
    upstream_url: str
    sink: IngestSink
    odd: OddUpstream

    def client(self, **options: Any) -> openai.OpenAI:
        """A stock client; it does not retry unless told to."""
        options = {"api_key": KEY, "max_retries": 0, "timeout": 30, **options}
        return openai.OpenAI(base_url=f"{self.gateway_url}/v1", **options)

    def events(self, stream_id: str) -> "StreamEvents":
        """The events of a stream that has ended."""
        eventually(lambda: f"{stream_id}:end" in self.sink.events, what=f"stream {stream_id} ends")
        return StreamEvents(self.sink.of_stream(stream_id))

    def ended_streams(self) -> set[str]:
        return {event["data"]["stream_id"] for event in self._all() if event["type"] == "stream-end"}

    def streams_tagged(self, tag: str, *, count: int) -> list["StreamEvents"]:
        """The streams with a tag of the test's own, once `count` of them have ended, in order of their start."""

        def tagged() -> list[str]:
            starts = [event for event in self._all() if event["data"].get("tags", {}).get("test") == tag]
            return [event["data"]["stream_id"] for event in sorted(starts, key=lambda start: start["time"])]

        eventually(
            lambda: len(set(tagged()) & self.ended_streams()) >= count, what=f"{count} streams tagged {tag}"
        )
        return [self.events(stream_id) for stream_id in tagged()]

    def sent(self) -> list[dict[str, Any]]:
        """What the demo upstream says it has sent, latest last."""
        records: list[dict[str, Any]] = httpx2.get(f"{self.upstream_url}/_sent", timeout=60).json()
        return records

    def _all(self) -> list[dict[str, Any]]:
        return list(self.sink.events.values())


class StreamEvents:
    """The events of one stream, by type."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        [self.start] = [event for event in events if event["type"] == "stream-start"]
        [self.end] = [event for event in events if event["type"] == "stream-end"]
        self.delivered = sorted(
            (event["data"] for event in events if event["type"] == "token-delivered"),
            key=lambda data: data["seq"],
        )

    @property
    def began(self) -> dict[str, Any]:
        return dict(self.start["data"])

    @property
    def ended(self) -> dict[str, Any]:
        return dict(self.end["data"])


def settings_of(
    *,
    sink_url: str,
    spool: Path,
    upstreams: tuple[Upstream, ...],
    ingest_key: str = "mk_test_secret",
    **options: Any,
) -> GatewaySettings:
    key = ClientKey(key_sha256=hash_key(KEY), customer_id="acme", api_key_id="acme-prod")
    other = ClientKey(key_sha256=hash_key("gk_other"), customer_id="globex")
    return GatewaySettings(
        metering_url=sink_url,
        ingest_key=ingest_key,
        upstreams=upstreams,
        keys=(other, key),
        spool=spool,
        source="/gateways/test",
        **options,
    )


def demo_upstream(url: str, *models: str, provider: str = "anthropic", **options: Any) -> Upstream:
    options = {"forward_headers": ("x-upstream-*",), **options}
    return Upstream(provider=provider, base_url=f"{url}/v1", models=models, api_key="sk-upstream", **options)


@contextmanager
def running_gateway(settings: GatewaySettings) -> Iterator[RunningServer]:
    with RunningServer(create_app(settings=settings), timeout_graceful_shutdown=1) as server:
        yield server
