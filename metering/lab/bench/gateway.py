"""`metering bench gateway`: what the reference gateway adds to a stream, beside a pass-through that reads nothing.

Upstream and clients are one process each, on raw sockets. All targets are measured in one run, since the machine's
other work moves all of them: the ratios to the floor say more than the milliseconds.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import msgspec
import psutil

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.lab.bench.gateway_clients import Order, Received
from metering.lab.bench.gateway_upstream import MODEL
from metering.lab.bench.machine import Machine, cpu_seconds, describe_machine
from metering.lab.bench.stage import Say

# LiteLLM wants keys that begin so.
KEY = "sk-bench"
_START_SECONDS = 120.0
_PAUSE_SECONDS = 1.0


class BenchError(MeteringError):
    """A target did not start."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One target under one load. `first_*` is the time to the first chunk; ratios are to the floor."""

    what: str
    streams: int
    rate: int
    chunks_per_second: float
    completed: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    first_p50_ms: float
    first_p99_ms: float
    cpu_microseconds_per_chunk: float
    cpu_ratio: float | None
    clients_cpu_microseconds_per_chunk: float


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench gateway`."""

    machine: Machine
    workers: int
    rows: list[Row]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    port: int
    pid: int


def bench_gateway(
    *,
    streams: int,
    rates: tuple[int, ...],
    seconds: float,
    workers: int,
    say: Say,
    ramp_seconds: float = 3.0,
    litellm: Path | None = None,
) -> GatewayReport:
    """Measure each target at each rate of tokens a second and stream; `litellm` is an environment that has it."""
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        upstream, upstream_port = stack.enter_context(printing_its_port("gateway_upstream"))
        floor, floor_port = stack.enter_context(printing_its_port("gateway_floor", str(upstream_port)))
        targets = [
            Target(what="direct", port=upstream_port, pid=upstream),
            Target(what="bare TCP pass-through", port=floor_port, pid=floor),
        ]
        for count in sorted({1, workers}):
            targets.append(stack.enter_context(gateway(folder / str(count), upstream_port, workers=count)))
        if litellm is not None:
            targets.append(stack.enter_context(_litellm(folder, litellm, upstream_port)))
        for rate in rates:
            floor_cpu: float | None = None
            for target in targets:
                order = Order(
                    port=target.port,
                    key=KEY,
                    streams=streams,
                    rate=rate,
                    seconds=seconds,
                    ramp_seconds=ramp_seconds,
                )
                row = _measure(target, order, floor_cpu)
                if target.port == floor_port:
                    floor_cpu = row.cpu_microseconds_per_chunk
                rows.append(row)
                say(_line(row))
    return GatewayReport(machine=describe_machine(now=utc_now(), postgres="not used"), workers=workers, rows=rows)


def _measure(target: Target, order: Order, floor_cpu: float | None) -> Row:
    time.sleep(_PAUSE_SECONDS)
    used = cpu_seconds(target.pid)
    clients = [sys.executable, "-m", "metering.lab.bench.gateway_clients"]
    done = subprocess.run(clients, input=msgspec.json.encode(order), stdout=subprocess.PIPE, check=True)
    used = cpu_seconds(target.pid) - used
    received = msgspec.json.decode(done.stdout, type=Received)
    sent = order.streams * int(order.rate * (order.seconds + order.ramp_seconds))
    each = used / sent * 1e6
    return Row(
        what=target.what,
        streams=order.streams,
        rate=order.rate,
        chunks_per_second=round(received.chunks / received.seconds),
        completed=received.completed,
        p50_ms=received.p50_ms,
        p99_ms=received.p99_ms,
        worst_ms=received.worst_ms,
        first_p50_ms=received.first_p50_ms,
        first_p99_ms=received.first_p99_ms,
        cpu_microseconds_per_chunk=round(each, 1),
        # In a very short run the floor may use less than a tick of the clock that counts CPU time.
        cpu_ratio=round(each / floor_cpu, 2) if floor_cpu else None,
        clients_cpu_microseconds_per_chunk=round(received.cpu_seconds / sent * 1e6, 1),
    )


def _line(row: Row) -> str:
    ratio = "" if row.cpu_ratio is None else f" ({row.cpu_ratio:.1f} x the floor)"
    return (
        f"{row.what:24} {row.streams} x {row.rate}/s {row.chunks_per_second:7,.0f} chunks/s  "
        f"p50 {row.p50_ms:6.2f} p99 {row.p99_ms:7.2f} ms  "
        f"first {row.first_p50_ms:6.2f} / {row.first_p99_ms:7.2f} ms  "
        f"CPU {row.cpu_microseconds_per_chunk:5.1f} us a chunk{ratio}"
    )


@contextmanager
def printing_its_port(module: str, *arguments: str) -> Iterator[tuple[int, int]]:
    """A process of this package, by id and port."""
    command = [sys.executable, "-m", f"metering.lab.bench.{module}", *arguments]
    # In a session of its own, a Ctrl-C at the terminal does not reach it: it ends with this block.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def gateway(
    folder: Path, upstream_port: int, *, workers: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """A reference gateway in front of the upstream, as `metering.gateway` runs it."""
    folder.mkdir()
    config = folder / "gateway.toml"
    config.write_text(
        f'[[upstreams]]\nprovider = "openai"\nbase_url = "http://127.0.0.1:{upstream_port}/v1"\nmodels = ["*"]\n'
        f'[[keys]]\nkey = "{KEY}"\ncustomer_id = "bench"\n'
    )
    port = _free_port()
    environment = {
        "METERING_GATEWAY_CONFIG": str(config),
        "METERING_GATEWAY_INGEST_KEY": "mk_bench_key",
        "METERING_GATEWAY_URL": f"http://127.0.0.1:{upstream_port}",
        "METERING_GATEWAY_PORT": str(port),
        "METERING_GATEWAY_SPOOL": str(folder / "spool"),
        **(settings or {}),
    }
    command = [sys.executable, "-m", "metering.gateway", "--workers", str(workers)]
    with _process(command, environment) as pid:
        _wait_until_ready(f"http://127.0.0.1:{port}/readyz", pid)
        yield Target(what=f"gateway, {workers} worker{'s' if workers > 1 else ''}", port=port, pid=pid)


@contextmanager
def _litellm(folder: Path, environment: Path, upstream_port: int) -> Iterator[Target]:
    """LiteLLM's proxy, which runs in an environment of its own."""
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
        f"      api_base: http://127.0.0.1:{upstream_port}/v1\n      api_key: sk-upstream\n"
        f"general_settings:\n  master_key: {KEY}\n"
    )
    port = _free_port()
    command = [str(environment / "bin" / "litellm"), "--config", str(config), "--port", str(port)]
    with _process(command, {}) as pid:
        _wait_until_ready(f"http://127.0.0.1:{port}/health/readiness", pid)
        yield Target(what="LiteLLM proxy", port=port, pid=pid)


@contextmanager
def _process(command: list[str], environment: Mapping[str, str]) -> Iterator[int]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=quiet, stderr=quiet, start_new_session=True
    ) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def _wait_until_ready(url: str, pid: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise BenchError(f"{url} did not answer within {_START_SECONDS:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
