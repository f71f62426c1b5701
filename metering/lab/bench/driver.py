"""The load: a separate process that posts scripts over N connections, one request at a time on each.

Run as `python -m metering.lab.bench.driver` with an Order as JSON on stdin; it prints a Driven as JSON. It parses
only the status and the length of an answer, so that it leaves most of the machine to the server.
"""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from time import perf_counter, process_time
from typing import cast

import msgspec
import uvloop

from metering.lab.bench.workload import Workload, play, write_script

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_EVENTS_PER_SCRIPT = 10_000
_RETRY_SECONDS = 0.05
_ACCEPTED = (b"200", b"201")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to post, where and for how long. Only requests sent after `warm_up_seconds` are timed.

    With `hold_customers`, requests for holds of so many customers are posted instead of events.
    """

    host: str
    port: int
    key: str
    workload: Workload
    connections: int
    seconds: float
    warm_up_seconds: float = 2.0
    seed: int = 1
    hold_customers: int = 0


class Driven(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an order. `events` and latencies are of the timed part, `all_events` of the whole."""

    events: int
    requests: int
    seconds: float
    all_events: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    refused: dict[str, int]
    cpu_seconds: float


class _Record:
    """The measurements of all connections; the run ends at `deadline`."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.began = perf_counter()
        self.timed_from = self.began + order.warm_up_seconds
        self.deadline = self.timed_from + order.seconds
        self.latencies: list[float] = []
        self.all_requests = 0
        self.refused: Counter[str] = Counter()

    def note(self, *, status: bytes, sent_at: float, now: float) -> None:
        if status not in _ACCEPTED:
            self.refused[status.decode()] += 1
            return
        self.all_requests += 1
        if sent_at >= self.timed_from and now <= self.deadline:
            self.latencies.append(now - sent_at)


class _Gateway(asyncio.Protocol):
    """One connection: posts a request after each answer; a refused request is sent again."""

    def __init__(self, record: _Record, script: Sequence[bytes], number: int) -> None:
        order = record.order
        self.done = asyncio.get_running_loop().create_future()
        self._record = record
        asks = order.hold_customers > 0
        self._requests = self._ask(order.hold_customers, number) if asks else self._play(script, number)
        path, media_type = ("holds", "json") if asks else ("events", "cloudevents-batch+json")
        self._head = (
            f"POST /v1/{path} HTTP/1.1\r\nHost: {order.host}\r\nAuthorization: Bearer {order.key}\r\n"
            f"Content-Type: application/{media_type}\r\nContent-Length: "
        ).encode()
        self._answer = b""
        self._request = b""

    def _play(self, script: Sequence[bytes], number: int) -> Iterator[bytes]:
        turn = 0
        while True:
            for body in play(script, connection=number, turn=turn):
                yield b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
            turn += 1

    def _ask(self, customers: int, number: int) -> Iterator[bytes]:
        for turn in count():
            customer = (number * 7_919 + turn) % customers
            body = (
                f'{{"customer_id":"held_{customer:06d}","stream_id":"h{number}-{turn}","provider":"anthropic",'
                f'"model":"claude-opus-4.7","input_tokens":812,"max_output_tokens":1000}}'
            ).encode()
            yield b"%s%d\r\n\r\n%s" % (self._head, len(body), body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send(next(self._requests))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the server closed a connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head_end = self._answer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        length = _LENGTH.search(self._answer)
        assert length, self._answer
        if len(self._answer) < head_end + 4 + int(length[1]):
            return
        status, self._answer = self._answer[9:12], b""
        now = perf_counter()
        self._record.note(status=status, sent_at=self._sent_at, now=now)
        if now >= self._record.deadline:
            self.done.set_result(None)
            self._transport.close()
        elif status in _ACCEPTED:
            self._send(next(self._requests))
        else:
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._send, self._request)

    def _send(self, request: bytes) -> None:
        self._request = request
        self._sent_at = perf_counter()
        self._transport.write(request)


async def drive(order: Order) -> Driven:
    """Carry out an order."""
    loop = asyncio.get_running_loop()
    requests = max(10, _EVENTS_PER_SCRIPT // order.workload.events_per_request)
    scripts = [
        write_script(order.workload, requests=requests, seed=order.seed * 1_000 + number)
        for number in range(order.connections)
    ]
    cpu = process_time()
    record = _Record(order)
    gateways = [_Gateway(record, script, order.seed * 1_000 + number) for number, script in enumerate(scripts)]
    for gateway in gateways:
        await loop.create_connection(lambda gateway=gateway: gateway, order.host, order.port)  # type: ignore[misc]
    await asyncio.gather(*(gateway.done for gateway in gateways))
    latencies = sorted(record.latencies) or [0.0]
    return Driven(
        events=len(record.latencies) * order.workload.events_per_request,
        requests=len(record.latencies),
        seconds=order.seconds,
        all_events=record.all_requests * order.workload.events_per_request,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
        worst_ms=latencies[-1] * 1000,
        refused=dict(record.refused),
        cpu_seconds=process_time() - cpu,
    )


def main() -> None:
    """Read an order from stdin, and print its result."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(drive(order))))


if __name__ == "__main__":
    main()
