"""The clients of `metering bench neighbours`, each in a process: a quiet one that is timed, and noisy ones.

Run as `python -m metering.lab.bench.neighbours_clients` with an Order as JSON on stdin; it prints what it saw as
JSON. Times are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import contextlib
import itertools
import json
import re
import secrets
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic

import msgspec
import uvloop

_HOST = "127.0.0.1"
# Idle clients and slow readers have an address of their own, as they would.
_OTHER_ADDRESS = "127.0.0.2"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_PLACEHOLDER = "0" * 16
_BATCH = "application/cloudevents-batch+json"
_LARGE_EVENTS, _BAD_EVENTS, _QUIET_EVENTS = 8_000, 10_000, 10
_LIVEZ_SECONDS, _GIVE_UP_SECONDS = 0.25, 60.0
_PAUSE_SECONDS, _BACK_SECONDS = 1.0, 10.0
# A month by hour and by everything: the most expensive question about totals.
_TOTALS = (
    "/v1/totals?from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z&granularity=hour&limit=1000"
    "&group_by=customer_id,provider,model,outcome,usage_source"
)
_LARGE_FILE = "/dashboard/static/vendor/tabler-1.6.1.min.css"

Windows = Sequence[tuple[float, float]]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: `kind` is `quiet` or a kind of noise, which is made in the `windows` only."""

    kind: str
    port: int
    key: str
    connections: int
    windows: Windows
    rate: float = 50.0


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """A request: when it was due, how long it took from then, and its status; 0 if the connection was closed."""

    at: float
    ms: float
    status: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a client saw. Only the quiet one keeps samples, of its requests and of /livez."""

    samples: list[Sample]
    livez: list[Sample]
    statuses: dict[str, int]


class ClosedError(Exception):
    """The server closed the connection."""


class _Connection:
    """One connection of HTTP/1.1: a request, then its answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> int:
        """The status of the answer.

        Raises:
            ClosedError: there was none.
        """
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(_HOST, self._port)
            reader, writer = self._streams
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if length := _LENGTH.search(head):
                await reader.readexactly(int(length[1]))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise ClosedError from error
        if b"\r\nconnection: close\r\n" in head.lower():
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _request(key: str, path: str, body: bytes = b"") -> bytes:
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
    if body:
        head += f"Content-Type: {_BATCH}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def _events(count: int, *, tokens: int) -> bytes:
    """Token-delivered events, each of another stream, whose ids begin with a placeholder."""
    time = datetime.now(UTC).isoformat()
    return json.dumps(
        [
            {
                "specversion": "1.0",
                "type": "token-delivered",
                "source": "/bench",
                "id": f"{_PLACEHOLDER}-{number}",
                "subject": f"cust_{number % 50}",
                "time": time,
                "data": {"stream_id": f"{_PLACEHOLDER}-{number}", "seq": 1, "output_tokens": tokens},
            }
            for number in range(count)
        ]
    ).encode()


def _posts(key: str, count: int, *, tokens: int = 7) -> Iterator[bytes]:
    """Requests without end, each with new streams."""
    request = _request(key, "/v1/events", _events(count, tokens=tokens))
    while True:
        yield request.replace(_PLACEHOLDER.encode(), secrets.token_hex(8).encode())


def _requests(order: Order) -> Iterator[bytes]:
    match order.kind:
        case "large bodies":
            return _posts(order.key, _LARGE_EVENTS)
        case "bad events":
            return _posts(order.key, _BAD_EVENTS, tokens=-1)
        case "totals":
            return itertools.repeat(_request(order.key, _TOTALS))
        case "unknown keys":
            return (
                _request(f"mk_{secrets.token_hex(8)}_{secrets.token_hex(16)}", "/v1/rates")
                for _ in itertools.count()
            )
    raise ValueError(order.kind)


async def _be_quiet(order: Order) -> Seen:
    """Post small batches at a steady rate; one that takes long delays none of the next."""
    samples: list[Sample] = []
    livez: list[Sample] = []
    until = order.windows[-1][1]
    idle: list[_Connection] = []

    async def ask(request: bytes, due: float, seen: list[Sample]) -> None:
        connection = idle.pop() if idle else _Connection(order.port)
        try:
            status = await asyncio.wait_for(connection.send(request), _GIVE_UP_SECONDS)
            idle.append(connection)
        except (ClosedError, TimeoutError):
            connection.close()
            status = 0
        seen.append(Sample(due, (monotonic() - due) * 1000, status))

    async def keep_asking(requests: Iterator[bytes], every: float, seen: list[Sample]) -> None:
        begin = order.windows[0][0]
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                due = begin + number * every
                if due >= until:
                    return
                await asyncio.sleep(due - monotonic())
                group.create_task(ask(next(requests), due, seen))

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_asking(_posts(order.key, _QUIET_EVENTS), 1 / order.rate, samples))
        group.create_task(keep_asking(itertools.repeat(_request("", "/livez")), _LIVEZ_SECONDS, livez))
    return Seen(samples=samples, livez=livez, statuses={})


async def _flood(order: Order) -> Seen:
    """Send as fast as answers come, on each connection."""
    statuses: Counter[str] = Counter()

    async def one_connection(until: float) -> None:
        connection, requests = _Connection(order.port), _requests(order)
        while monotonic() < until:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - monotonic()):
                    statuses[str(await connection.send(next(requests)))] += 1
            except TimeoutError:
                statuses["unanswered"] += 1
                break
            except ClosedError:
                statuses["closed"] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
        connection.close()

    await _in_windows(order, one_connection)
    return Seen(samples=[], livez=[], statuses=dict(statuses))


async def _hold(order: Order) -> Seen:
    """Half of the connections send nothing; the others ask for a file and do not read it. All come back."""
    statuses: Counter[str] = Counter()

    async def one_connection(until: float, *, asks: bool) -> None:
        loop = asyncio.get_running_loop()
        while monotonic() < until:
            with socket.socket() as connection, contextlib.suppress(OSError, TimeoutError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.setblocking(False)
                connection.bind((_OTHER_ADDRESS, 0))
                async with asyncio.timeout_at(loop.time() + until - monotonic()):
                    await loop.sock_connect(connection, (_HOST, order.port))
                    statuses["opened"] += 1
                    if asks:
                        await loop.sock_sendall(connection, _request("", _LARGE_FILE) * 8)
                        await asyncio.sleep(until - monotonic())
                    await loop.sock_recv(connection, 1)
            await asyncio.sleep(min(_BACK_SECONDS, max(0.0, until - monotonic())))

    turns = itertools.cycle((False, True))
    await _in_windows(order, lambda until: one_connection(until, asks=next(turns)))
    return Seen(samples=[], livez=[], statuses=dict(statuses))


async def _in_windows(order: Order, one_connection: Callable[[float], Awaitable[None]]) -> None:
    for begin, end in order.windows:
        await asyncio.sleep(begin - monotonic())
        await asyncio.gather(*(one_connection(end) for _ in range(order.connections)))


def main() -> None:
    """Read an order from stdin, and print what was seen."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    work = {"quiet": _be_quiet, "connections": _hold}.get(order.kind, _flood)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(work(order))))


if __name__ == "__main__":
    main()
