"""Starts the demo's gateway and upstream as processes on free ports, and waits for what they do."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from metering.core.errors import MeteringError
from metering.lab.demo.scenes import SCENES
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.server.up import answers, free_port, metering_child

CUSTOMER = "acme"
_WAIT_SECONDS = 20.0


class TooSlowError(MeteringError):
    """Something that the demo waits for did not happen in time."""


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds.

    Raises:
        TooSlowError: it does not hold within 20 s; the message names `what`.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TooSlowError(f"waited {_WAIT_SECONDS:g} s for {what}")
        time.sleep(0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A running gateway and its upstream."""

    url: str
    upstream_url: str

    def sent(self) -> list[dict[str, Any]]:
        """The upstream's record of every request so far, oldest first (`upstream.Sent`)."""
        records: list[dict[str, Any]] = httpx2.get(f"{self.upstream_url}/_sent", timeout=5).json()
        return records


def gateway_key(scene: str) -> str:
    """The gateway key of a scene. Each scene has its own, which identifies its charges."""
    return f"gk_demo_{scene}"


def start_gateway(*, supervisor: Supervisor, folder: Path, api_url: str, ingest_key: str) -> Gateway:
    """Start upstream and gateway under the supervisor; `folder` takes the configuration and the spool.

    Raises:
        ChildFailedError: one of them did not become ready.
    """
    upstream_port, port = free_port(), free_port()
    upstream_url = f"http://127.0.0.1:{upstream_port}"
    config = folder / "gateway.toml"
    config.write_text(_config(upstream_url))
    environment = {
        "METERING_GATEWAY_URL": api_url,
        "METERING_GATEWAY_INGEST_KEY": ingest_key,
        "METERING_GATEWAY_CONFIG": str(config),
        "METERING_GATEWAY_SPOOL": str(folder / "spool"),
        "METERING_GATEWAY_SOURCE": "/gateways/demo",
        "METERING_GATEWAY_PORT": str(port),
    }
    supervisor.start(
        [
            ChildSpec(
                name="upstream",
                argv=[
                    sys.executable,
                    "-c",
                    f"from metering.lab.demo.upstream import run; run(port={upstream_port})",
                ],
                ready=lambda: answers(f"{upstream_url}/_sent"),
            ),
            metering_child(
                "gateway", ["gateway"], environment=environment, ready_url=f"http://127.0.0.1:{port}/livez"
            ),
        ]
    )
    return Gateway(url=f"http://127.0.0.1:{port}/v1", upstream_url=upstream_url)


def _config(upstream_url: str) -> str:
    def upstream(provider: str, models: str) -> str:
        return (
            f'[[upstreams]]\nprovider = "{provider}"\nbase_url = "{upstream_url}/v1"\napi_key = "demo"\n'
            f'models = ["{models}"]\nforward_headers = ["x-upstream-*"]\n'
        )

    def key(scene: str) -> str:
        return f'[[keys]]\nkey = "{gateway_key(scene)}"\ncustomer_id = "{CUSTOMER}"\napi_key_id = "{scene}"\n'

    upstreams = [upstream("anthropic", "claude-*"), upstream("openai", "gpt-*"), upstream("house", "house-*")]
    return "\n".join([*upstreams, *(key(scene.name) for scene in SCENES)])
