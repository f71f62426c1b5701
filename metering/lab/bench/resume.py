"""`metering bench resume`: what an `X-Resume-Key` costs a stream of the gateway, beside the same without it.

One gateway and one Valkey serve streams without the header, which are the floor, with it, and with a second reader
of each. The three take turns, so that other work of the machine falls on all of them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from metering.core.clock import utc_now
from metering.lab.bench.gateway import KEY, Target, gateway, printing_its_port
from metering.lab.bench.gateway_clients import Order, Received
from metering.lab.bench.machine import Machine, cpu_seconds, describe_machine
from metering.lab.bench.stage import BenchFailedError, Say
from metering.server.embedded.data_dir import ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor

OFF, ON, FOLLOWED = "without X-Resume-Key", "with it", "with it, and a second reader"
_PAUSE_SECONDS = 1.0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds. CPU time is per chunk that the upstream sent; ratios are to a round's floor."""

    what: str
    completed: int
    first_p50_ms: float
    first_p99_ms: float
    p50_ms: float
    p99_ms: float
    gateway_microseconds: float
    valkey_microseconds: float
    first_ratio: float
    cpu_ratio: float
    follower_first_p50_ms: float | None
    follower_p50_ms: float | None


class ResumeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench resume`."""

    machine: Machine
    streams: int
    rate: int
    rounds: int
    load: float
    rows: list[Row]


class _Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement."""

    received: Received
    gateway: float
    valkey: float


def bench_resume(*, streams: int, rate: int, seconds: float, rounds: int, say: Say) -> ResumeReport:
    """Measure `rounds` turns of each kind."""
    turns: dict[str, list[_Turn]] = {OFF: [], ON: [], FOLLOWED: []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        data = stack.enter_context(ephemeral_data_dir())
        servers = stack.enter_context(Supervisor(quiet=True))
        services = stack.enter_context(embedded_services(data=data, supervisor=servers, postgres=False))
        _, upstream_port = stack.enter_context(printing_its_port("gateway_upstream"))
        settings = {
            "METERING_GATEWAY_RESUME_REDIS_URL": services.redis_url,
            "METERING_GATEWAY_RESUME_KEEP_SECONDS": "5",
            "METERING_GATEWAY_RESUME_MAX_STREAMS": "100000",
            "METERING_GATEWAY_RESUME_MAX_STREAMS_PER_CUSTOMER": "100000",
        }
        target = stack.enter_context(gateway(folder / "gateway", upstream_port, settings=settings))
        valkey = servers.pid_of("valkey")
        if valkey is None:
            raise BenchFailedError("Valkey does not run")
        for number in range(rounds):
            for what in turns:
                order = Order(
                    port=target.port,
                    key=KEY,
                    streams=streams,
                    rate=rate,
                    seconds=seconds,
                    ramp_seconds=seconds / 4,
                    resumable=what != OFF,
                    followers=what == FOLLOWED,
                )
                turns[what].append(_measure(order, target, valkey))
                say(_line(f"{number + 1}: {what}", turns[what][-1]))
    return ResumeReport(
        machine=describe_machine(now=utc_now(), postgres="not used"),
        streams=streams,
        rate=rate,
        rounds=rounds,
        load=round(os.getloadavg()[0], 1),
        rows=[_row(what, each, turns[OFF]) for what, each in turns.items()],
    )


def _measure(order: Order, target: Target, valkey: int) -> _Turn:
    time.sleep(_PAUSE_SECONDS)
    before = cpu_seconds(target.pid), cpu_seconds(valkey)
    clients = [sys.executable, "-m", "metering.lab.bench.gateway_clients"]
    done = subprocess.run(clients, input=msgspec.json.encode(order), stdout=subprocess.PIPE, check=True)
    sent = order.streams * int(order.rate * (order.seconds + order.ramp_seconds))
    return _Turn(
        received=msgspec.json.decode(done.stdout, type=Received),
        gateway=(cpu_seconds(target.pid) - before[0]) / sent * 1e6,
        valkey=(cpu_seconds(valkey) - before[1]) / sent * 1e6,
    )


def _row(what: str, turns: Sequence[_Turn], floor: Sequence[_Turn]) -> Row:
    received = [turn.received for turn in turns]
    followers = [each.followers for each in received if each.followers is not None]
    return Row(
        what=what,
        completed=sum(each.completed for each in received),
        first_p50_ms=median(each.first_p50_ms for each in received),
        first_p99_ms=median(each.first_p99_ms for each in received),
        p50_ms=median(each.p50_ms for each in received),
        p99_ms=median(each.p99_ms for each in received),
        gateway_microseconds=round(median(turn.gateway for turn in turns), 1),
        valkey_microseconds=round(median(turn.valkey for turn in turns), 1),
        first_ratio=median(
            turn.received.first_p50_ms / other.received.first_p50_ms
            for turn, other in zip(turns, floor, strict=True)
        ),
        # In a very short run the floor may use less than a tick of the clock that counts CPU time.
        cpu_ratio=median(turn.gateway / max(other.gateway, 0.1) for turn, other in zip(turns, floor, strict=True)),
        follower_first_p50_ms=median(each.first_p50_ms for each in followers) if followers else None,
        follower_p50_ms=median(each.p50_ms for each in followers) if followers else None,
    )


def _line(what: str, turn: _Turn) -> str:
    received = turn.received
    return (
        f"{what:32} first {received.first_p50_ms:6.2f} / {received.first_p99_ms:7.2f} ms"
        f"  chunk p50 {received.p50_ms:6.2f} p99 {received.p99_ms:7.2f} ms"
        f"  CPU a chunk: gateway {turn.gateway:5.1f} us, Valkey {turn.valkey:4.1f} us"
    )
