"""`metering bench emitter`: microseconds of a call, once a millisecond as in a gateway, and in a tight loop.

The floor is what no emitter can avoid: an append to a queue under a lock. Once a millisecond, the calls take
turns, so that other work of the machine falls on all of them, and each finds the caches as the others left them.
"""

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec

from metering.core.clock import utc_now
from metering.emitter import Emitter, MeteredStream, TokenDelivered
from metering.lab.bench.gateway import printing_its_port
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import Say

_WORDS = ["", "Three", "rings", "for", "the", "elven", "kings", "under", "the", "sky"]
_PAUSE_SECONDS = 0.001


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """The time of one kind of call, in microseconds."""

    call: str
    loop: str
    calls: int
    p50: float
    p99: float
    p999: float


class EmitterReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench emitter`.

    `ratio`: p50 of `emit` by p50 of the floor, in the tight loop; `paced_ratio`: p99 by p99, once a millisecond.
    """

    machine: Machine
    rows: Sequence[CallRow]
    ratio: float
    paced_ratio: float
    load: float
    dropped: int


def bench_emitter(*, calls: int, say: Say) -> EmitterReport:
    """Time `calls` of each kind in a tight loop, and a tenth as many at one a millisecond."""
    rows: list[CallRow] = []
    with tempfile.TemporaryDirectory() as folder, printing_its_port("gateway_upstream") as (_, port):
        url = f"http://127.0.0.1:{port}"
        emitter = Emitter(url=url, key="mk_bench_secret", source="/bench", spool=Path(folder))
        stream = emitter.stream(customer_id="acme", provider="openai", model="gpt-4o", input_tokens=12)
        with stream:
            kinds = _calls(emitter, stream)
            for name, call in kinds.items():
                rows.append(_row(name, "tight", _times(call, calls)))
            for name, times in _paced_times(kinds, calls // 10).items():
                rows.append(_row(name, "1/ms", times))
        emitter.close()
        dropped = emitter.stats().dropped
    for row in rows:
        say(f"{row.call:<10} {row.loop:<6} p50 {row.p50:6.2f} us, p99 {row.p99:6.2f} us")
    tight = {row.call: row for row in rows if row.loop == "tight"}
    paced = {row.call: row for row in rows if row.loop == "1/ms"}
    return EmitterReport(
        machine=describe_machine(now=utc_now(), postgres="not used"),
        rows=rows,
        ratio=tight["emit"].p50 / tight["floor"].p50,
        paced_ratio=paced["emit"].p99 / paced["floor"].p99,
        load=round(os.getloadavg()[0], 1),
        dropped=dropped,
    )


def _calls(emitter: Emitter, stream: MeteredStream) -> dict[str, Callable[[int], None]]:
    lock, queue = threading.Lock(), deque[int](maxlen=1_000)

    def floor(number: int) -> None:
        with lock:
            queue.append(number)

    events = [
        TokenDelivered(
            customer_id="acme", stream_id=f"s{number % 200}", time=utc_now(), seq=number, output_tokens=number
        )
        for number in range(1_000)
    ]

    def chunk(number: int) -> dict[str, Any]:
        delta = {"content": f" {_WORDS[number % len(_WORDS)]}"}
        return {"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    chunks = [chunk(number) for number in range(1_000)]
    return {
        "floor": floor,
        "emit": lambda number: emitter.emit(events[number % 1_000]),
        "delivered": lambda number: stream.delivered(output_tokens=number),
        "take": lambda number: stream.take(chunks[number % 1_000]),
    }


def _times(call: Callable[[int], None], count: int) -> list[int]:
    """Nanoseconds of each call in a tight loop, the smallest first."""
    times = [0] * count
    for number in range(count):
        began = perf_counter_ns()
        call(number)
        times[number] = perf_counter_ns() - began
    return sorted(times)


def _paced_times(calls: Mapping[str, Callable[[int], None]], count: int) -> dict[str, list[int]]:
    """The same with a pause after each call, the kinds in turn."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for number in range(count):
        for name, call in calls.items():
            began = perf_counter_ns()
            call(number)
            times[name].append(perf_counter_ns() - began)
            time.sleep(_PAUSE_SECONDS)
    return {name: sorted(each) for name, each in times.items()}


def _row(call: str, loop: str, times: Sequence[int]) -> CallRow:
    def at(share: float) -> float:
        return round(times[int(len(times) * share)] / 1_000, 2)

    return CallRow(call=call, loop=loop, calls=len(times), p50=at(0.5), p99=at(0.99), p999=at(0.999))
