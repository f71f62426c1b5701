"""The clients of `metering bench gateway`: a process that opens streams and compares the stamps of their chunks.

Run as `python -m metering.lab.bench.gateway_clients` with an Order as JSON on stdin; it prints a Received as JSON.
"""

import asyncio
import re
import secrets
import sys
import time
from array import array
from typing import cast

import msgspec
import uvloop

from metering.lab.bench.gateway_upstream import MODEL, STAMP_DIGITS

_STAMP = re.compile(rb'"obfuscation":"(\d{%d})' % STAMP_DIGITS)
_END = b"data: [DONE]"
# A stamp may be cut by the end of a read.
_TAIL_BYTES = STAMP_DIGITS + 15
_PATIENCE_SECONDS = 120.0
_FOLLOWS_SECONDS = 0.5


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Streams to open over `ramp_seconds`, each with `rate` tokens a second for `seconds` after the ramp.

    `resumable` streams have an `X-Resume-Key` each. Each may have a follower, a second client with the same
    key, which comes half a second later.
    """

    port: int
    key: str
    streams: int
    rate: int
    seconds: float
    ramp_seconds: float
    resumable: bool = False
    followers: bool = False


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies are of the chunks after the ramp; `first_*` is from the request to the first chunk."""

    chunks: int
    seconds: float
    completed: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    first_p50_ms: float
    first_p99_ms: float
    cpu_seconds: float
    followers: "Received | None" = None


class _Record:
    def __init__(self, order: Order) -> None:
        self.tokens = int(order.rate * (order.seconds + order.ramp_seconds))
        self.timed_from = time.monotonic_ns() + int(order.ramp_seconds * 1e9)
        self.timed_to = self.timed_from + int(order.seconds * 1e9)
        self.latencies = array("q")
        self.first = array("q")
        self.completed = 0


class _Client(asyncio.Protocol):
    """One stream on a connection of its own."""

    def __init__(self, order: Order, record: _Record, resume_key: str | None) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._record = record
        self._tail = b""
        body = (
            b'{"model":"%s","stream":true,"stream_options":{"include_usage":true},"bench":[%d,%d],"messages":'
            b'[{"role":"user","content":"How did the harbour master keep his books?"}]}'
        ) % (MODEL.encode(), record.tokens, order.rate)
        resume = f"x-resume-key: {resume_key}\r\n" if resume_key else ""
        self._request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\n%s"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        ) % (order.key.encode(), resume.encode(), len(body), body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._asked_at = time.monotonic_ns()
        self._waits = True
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        record = self._record
        text = self._tail + data
        end = 0
        for match in _STAMP.finditer(text):
            end = match.end()
            if self._waits:
                self._waits = False
                record.first.append(now - self._asked_at)
            if record.timed_from <= now < record.timed_to:
                record.latencies.append(now - int(match[1]))
        if _END in text:
            record.completed += 1
            self._transport.close()
        self._tail = text[max(end, len(text) - _TAIL_BYTES) :]

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _run(order: Order) -> Received:
    record, following = _Record(order), _Record(order)
    clients: list[asyncio.Task[None]] = []
    began = time.process_time()
    for number in range(order.streams):
        await asyncio.sleep(order.ramp_seconds / order.streams if number else 0)
        resume_key = secrets.token_hex(16) if order.resumable else None
        clients.append(asyncio.create_task(_read(order, record, resume_key)))
        if order.followers:
            clients.append(asyncio.create_task(_read(order, following, resume_key, after=_FOLLOWS_SECONDS)))
    await asyncio.wait(clients, timeout=order.seconds + _PATIENCE_SECONDS)
    received = _received(order, record, began)
    if not order.followers:
        return received
    return msgspec.structs.replace(received, followers=_received(order, following, began))


async def _read(order: Order, record: _Record, resume_key: str | None, *, after: float = 0.0) -> None:
    await asyncio.sleep(after)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: _Client(order, record, resume_key), "127.0.0.1", order.port)
    await client.done


def _received(order: Order, record: _Record, began: float) -> Received:
    ordered, first = sorted(record.latencies), sorted(record.first)
    return Received(
        chunks=len(ordered),
        seconds=order.seconds,
        completed=record.completed,
        p50_ms=_percentile(ordered, 50),
        p99_ms=_percentile(ordered, 99),
        worst_ms=_percentile(ordered, 100),
        first_p50_ms=_percentile(first, 50),
        first_p99_ms=_percentile(first, 99),
        cpu_seconds=time.process_time() - began,
    )


def _percentile(ordered: list[int], percent: int) -> float:
    """In milliseconds, rounded to microseconds; NaN would not be JSON, so no values are -1."""
    if not ordered:
        return -1.0
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] / 1e6, 3)


if __name__ == "__main__":
    result = uvloop.run(_run(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
    sys.stdout.write(msgspec.json.encode(result).decode())
