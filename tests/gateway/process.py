"""The gateway as a process of its own, as an operator starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2

from tests.emitter.sink import eventually, free_port
from tests.gateway.world import KEY

_UPSTREAM = """
[[upstreams]]
provider = "openai"
base_url = "{url}/v1"
models = ["*"]
{more}
[[keys]]
key = "{key}"
customer_id = "acme"
"""


@dataclass
class GatewayProcess:
    """A running gateway; `log` is what it has written to stderr so far."""

    process: "subprocess.Popen[bytes]"
    url: str
    config: Path
    log_file: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def write_config(self, upstream_url: str, *, key: str = KEY, more: str = "") -> None:
        self.config.write_text(_UPSTREAM.format(url=upstream_url, key=key, more=more))

    def metric(self, name: str) -> float:
        """The value of a metric, 0 if it is not there yet."""
        lines = httpx2.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


@contextmanager
def gateway_process(
    folder: Path, *, sink_url: str, upstream_url: str, arguments: tuple[str, ...] = (), **settings: str
) -> Iterator[GatewayProcess]:
    port = free_port()
    config, log_file = folder / "gateway.toml", folder / "gateway.log"
    environment = {
        **os.environ,
        "METERING_GATEWAY_CONFIG": str(config),
        "METERING_GATEWAY_INGEST_KEY": "mk_test_secret",
        "METERING_GATEWAY_URL": sink_url,
        "METERING_GATEWAY_PORT": str(port),
        "METERING_GATEWAY_SPOOL": str(folder / "spool"),
        "METERING_GATEWAY_GRACE_SECONDS": "1",
        **{f"METERING_GATEWAY_{name.upper()}": value for name, value in settings.items()},
    }
    running = GatewayProcess(None, f"http://127.0.0.1:{port}", config, log_file)  # type: ignore[arg-type]
    running.write_config(upstream_url)
    with log_file.open("wb") as log:
        running.process = _start(arguments, environment, log)
        try:
            eventually(lambda: _is_ready(running), what=f"the gateway starts: {running.log}")
            yield running
        finally:
            if running.process.poll() is None:
                running.process.terminate()
            try:
                running.process.wait(60)
            except subprocess.TimeoutExpired:
                running.process.kill()
                raise


def _start(arguments: tuple[str, ...], environment: dict[str, str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "metering.gateway", *arguments]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _is_ready(running: GatewayProcess) -> bool:
    assert running.process.poll() is None, running.log
    try:
        return httpx2.get(f"{running.url}/readyz", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False
