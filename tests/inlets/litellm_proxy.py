"""A real LiteLLM proxy, in a process and an environment of its own, between the hostile upstream and a sink."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import openai
import yaml

from tests.emitter.sink import IngestSink, RunningServer, eventually, free_port
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import Behaviour
from tests.gateway.hostile.upstream import HostileUpstream
from tests.gateway.world import StreamEvents

ROOT = Path(__file__).parents[2]
_FALLBACKS = {"falls": "other", "breaks": "other", "falls-whole": "other-whole"}
KEY = "sk-litellm-master"


@dataclass(frozen=True)
class LiteLLMWorld:
    """The proxy, its upstream, and where its events arrive."""

    url: str
    upstream: HostileUpstream
    sink: IngestSink
    log: Path

    def client(self, **options: Any) -> openai.OpenAI:
        options = {"api_key": KEY, "max_retries": 0, "timeout": 60, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def streams_of(self, customer: str, *, count: int = 1, seconds: float = 60) -> list[StreamEvents]:
        """The streams of a customer, once `count` of them have ended, in the order of their starts."""

        def ids(kind: str) -> list[str]:
            found = [e for e in list(self.sink.events.values()) if e["subject"] == customer and e["type"] == kind]
            return [event["data"]["stream_id"] for event in sorted(found, key=lambda event: event["time"])]

        eventually(
            lambda: len(ids("stream-end")) >= count, what=f"{count} streams of {customer} end", seconds=seconds
        )
        return [StreamEvents(self.sink.of_stream(stream_id)) for stream_id in ids("stream-start")]


@contextmanager
def litellm_world(
    python: Path,
    behaviours: list[Behaviour],
    folder: Path,
    *,
    deployments: Sequence[tuple[str, str]] = (),
    answers: Sequence[Behaviour] = (),
    config: dict[str, Any] | None = None,
    general: Mapping[str, Any] = MappingProxyType({}),
    **environment: str,
) -> Iterator[LiteLLMWorld]:
    """A proxy with a model for each behaviour, and `deployments`: the name of a model, and the model itself."""
    sink = IngestSink()
    with RunningServer(sink.app) as sink_server, HostileUpstream(answers or behaviours) as upstream:
        port = free_port()
        log = folder / "litellm.log"
        config = config or _config(f"{upstream.url}/v1", behaviours, deployments)
        config.setdefault("general_settings", {}).update(general)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        settings = {
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_MASTER_KEY": KEY,
            "METERING_LITELLM_URL": sink_server.url,
            "METERING_LITELLM_INGEST_KEY": "mk_test",
            "METERING_LITELLM_SPOOL": str(folder / "spool"),
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "*",
            "OPENAI_BASE_URL": f"{upstream.url}/v1",
            "ANTHROPIC_API_BASE": upstream.url,
            "ANTHROPIC_API_KEY": "sk-upstream",
            **environment,
        }
        command = [
            python.parent / "litellm",
            "--config",
            "config.yaml",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=folder, env=settings, stdout=output, stderr=output)
            url = f"http://127.0.0.1:{port}"
            try:
                # The proxy imports for ten seconds. Asking more often would slow that down.
                eventually(lambda: _is_ready(process, url, log), what="LiteLLM is ready", seconds=120, every=0.2)
                yield LiteLLMWorld(url, upstream, sink, log)
            finally:
                process.terminate()
                process.wait(30)


def post_and_leave(world: LiteLLMWorld, name: str, payer: str, *, stream: bool) -> None:
    """Send a request by hand and leave as soon as the upstream is asked."""
    before = len(world.upstream.records.get(name, ()))
    asked = {"model": f"openai/gpt-4o:{name}", "stream": stream, "user": payer, "messages": MESSAGES}
    body = json.dumps(asked).encode()
    with socket.create_connection(("127.0.0.1", int(world.url.rpartition(":")[2]))) as connection:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n" % KEY.encode()
        head += b"content-type: application/json\r\n"
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: len(world.upstream.records.get(name, ())) > before, what="the upstream is asked")


def _is_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    try:
        return httpx2.get(f"{url}/health/liveliness").status_code == 200
    except httpx2.HTTPError:
        return False


def _deployment(name: str, model: str, base: str, **more: Any) -> dict[str, Any]:
    if model.startswith("anthropic/"):
        base = base.removesuffix("/v1")
    given = {"model": model, "api_base": base, "api_key": "sk-upstream", **more}
    return {"model_name": name, "litellm_params": given}


def proxy_model(behaviour: Behaviour) -> str:
    """The name of a behaviour's model at the proxy."""
    provider = "xai" if behaviour.model.startswith("grok") else "openai"
    return f"{provider}/{behaviour.model}:{behaviour.name}"


def _config(base: str, behaviours: list[Behaviour], deployments: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "model_list": [
            *(_deployment(proxy_model(each), proxy_model(each), base) for each in behaviours),
            *(_deployment(name, model, base) for name, model in deployments),
            _deployment("falls", "openai/gpt-4o:refused-500", base),
            _deployment("breaks", "openai/gpt-4o:role-then-drops", base),
            _deployment("falls-whole", "openai/gpt-4o:refused-500", base),
            _deployment("other", "deepseek/deepseek-chat:good", base),
            _deployment("other-whole", "deepseek/deepseek-chat:json", base),
            _deployment("repeats", "openai/gpt-4o:refused-429", base, num_retries=2),
        ],
        "litellm_settings": {
            "callbacks": ["metering.inlets.litellm.proxy_logger"],
            "num_retries": 0,
            "request_timeout": 30,
            "telemetry": False,
        },
        "router_settings": {
            "fallbacks": [{name: [other]} for name, other in _FALLBACKS.items()],
            "num_retries": 0,
            "disable_cooldowns": True,
        },
        "general_settings": {"master_key": KEY},
    }
