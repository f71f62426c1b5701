"""The world of the gateway, started once."""

from collections.abc import Iterator

import openai
import pytest

from metering.gateway.settings import Upstream
from metering.lab.demo.upstream import create_upstream
from metering.lab.stripe_local.app import DroppingProtocol
from tests.emitter.sink import IngestSink, RunningServer, free_port
from tests.gateway.odd_upstream import OddUpstream
from tests.gateway.world import RATE, World, demo_upstream, running_gateway, settings_of


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    with RunningServer(create_upstream(rate=RATE), http=DroppingProtocol) as server:
        yield server.url


@pytest.fixture(scope="session")
def world(demo_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    sink, odd = IngestSink(), OddUpstream()
    with RunningServer(sink.app) as sink_server, RunningServer(odd.app) as odd_server:
        upstreams = (
            demo_upstream(demo_url, "claude-*"),
            demo_upstream(demo_url, "gpt-5.5-pro", "gpt-*", provider="openai"),
            demo_upstream(demo_url, "slow-*", read_timeout_seconds=0.4),
            demo_upstream(demo_url, "drained-*", drain_seconds=20),
            demo_upstream(demo_url, "briefly-drained-*", drain_seconds=0.3),
            demo_upstream(f"http://127.0.0.1:{free_port()}", "unreachable"),
            Upstream(provider="odd", base_url=f"{odd_server.url}/v1", models=("odd-*",), api_key="sk-odd"),
        )
        spool = tmp_path_factory.mktemp("spool")
        settings = settings_of(sink_url=sink_server.url, spool=spool, upstreams=upstreams)
        with running_gateway(settings) as gateway:
            yield World(gateway.url, demo_url, sink, odd)


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with world.client() as client:
        yield client
