"""The demo's gateway and upstream, as processes of their own on free ports."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from metering.lab.demo.scenes import SCENES
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.server.up import answers, free_port, metering_child

CUSTOMER = "acme"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A running gateway, and the upstream behind it."""

    url: str
    upstream_url: str

    def sent(self) -> list[dict[str, Any]]:
        """What the upstream has sent so far, one record a request, oldest first."""
        records: list[dict[str, Any]] = httpx2.get(f"{self.upstream_url}/_sent", timeout=5).json()
        return records


def gateway_key(scene: str) -> str:
    """The gateway's key for a scene: each scene has its own, so that its charges can be told apart."""
    return f"gk_demo_{scene}"


def start_gateway(*, supervisor: Supervisor, folder: Path, api_url: str, ingest_key: str) -> Gateway:
    """Start both under the supervisor.

    Raises:
        ChildFailedError: one did not become ready.
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
