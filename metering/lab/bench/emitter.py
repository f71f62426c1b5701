"""`metering bench emitter`: microseconds of a call, once a millisecond as in a gateway, and in a tight loop.

The floor is what no emitter can avoid: an append to a queue under a lock.
"""

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
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
    """The results of `metering bench emitter`. `ratio`: p50 of `emit` by p50 of the floor, in the tight loop."""

    machine: Machine
    rows: Sequence[CallRow]
    ratio: float
    dropped: int


def bench_emitter(*, calls: int, say: Say) -> EmitterReport:
    """Time `calls` of each kind in a tight loop, and a tenth as many at one a millisecond."""
    rows: list[CallRow] = []
    with tempfile.TemporaryDirectory() as folder, printing_its_port("gateway_upstream") as (_, port):
        url = f"http://127.0.0.1:{port}"
        emitter = Emitter(url=url, key="mk_bench_secret", source="/bench", spool=Path(folder))
        stream = emitter.stream(customer_id="acme", provider="openai", model="gpt-4o", input_tokens=12)
        with stream:
            for name, call in _calls(emitter, stream).items():
                for loop, count, pause in (("tight", calls, 0.0), ("1/ms", calls // 10, _PAUSE_SECONDS)):
                    rows.append(_row(name, loop, _times(call, count, pause)))
                    say(f"{name:<10} {loop:<6} p50 {rows[-1].p50:6.2f} us, p99 {rows[-1].p99:6.2f} us")
        emitter.close()
        dropped = emitter.stats().dropped
    p50 = {row.call: row.p50 for row in rows if row.loop == "tight"}
    return EmitterReport(
        machine=describe_machine(now=utc_now(), postgres="not used"),
        rows=rows,
        ratio=p50["emit"] / p50["floor"],
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


def _times(call: Callable[[int], None], count: int, pause: float) -> list[int]:
    """Nanoseconds of each call, the smallest first."""
    times = [0] * count
    for number in range(count):
        began = perf_counter_ns()
        call(number)
        times[number] = perf_counter_ns() - began
        if pause:
            time.sleep(pause)
    return sorted(times)


def _row(call: str, loop: str, times: Sequence[int]) -> CallRow:
    def at(share: float) -> float:
        return round(times[int(len(times) * share)] / 1_000, 2)

    return CallRow(call=call, loop=loop, calls=len(times), p50=at(0.5), p99=at(0.99), p999=at(0.999))
