"""The upstream of `metering bench gateway`: sends stamped chunks at an even rate, and takes usage events.

Run as `python -m metering.lab.bench.gateway_upstream`; it prints its port. It is as cheap as Python allows: bytes
are prepared, and one timer serves all streams.
"""

import asyncio
import re
import sys
import time
from heapq import heappop, heappush
from typing import cast

import uvloop

# The width of a stamp: nanoseconds of the monotonic clock, which all processes of a machine share. It stands in a
# field that OpenAI fills with random characters.
STAMP_DIGITS = 19
MODEL = "gpt-4o"

_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)
_WANTED = re.compile(rb'"bench": ?\[(\d+), ?(\d+)\]')
_WORDS = (b" harbour", b" master", b" kept", b" the", b" books", b" of", b" every", b" ship")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_START = (
    b'"id":"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012","object":"chat.completion.chunk","created":1790000000,'
    b'"model":"gpt-4o-2024-11-20","service_tier":"default","system_fingerprint":"fp_a1b2c3d4e5",'
)
_ACCEPTED = (
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 28\r\n\r\n{"accepted":1,"rejected":[]}'
)


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


def _event(word: bytes) -> tuple[bytes, bytes]:
    """The bytes of a chunk before and after its stamp."""
    choice = b'"choices":[{"index":0,"delta":{"content":"%s"},"logprobs":null,"finish_reason":null}]' % word
    event = b'data: {"obfuscation":"%s",%s%s}\n\n' % (b"0" * STAMP_DIGITS, _START, choice)
    before, _, after = _framed(event).partition(b"0" * STAMP_DIGITS)
    return before, after


_EVENTS = tuple(_event(word) for word in _WORDS)
_FINISH = _framed(
    b'data: {%s"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n' % _START
)


def _ending(tokens: int) -> bytes:
    usage = b'{"prompt_tokens":17,"completion_tokens":%d,"total_tokens":%d}' % (tokens, tokens + 17)
    return (
        _FINISH
        + _framed(b'data: {%s"choices":[],"usage":%s}\n\n' % (_START, usage))
        + _framed(b"data: [DONE]\n\n")
        + b"0\r\n\r\n"
    )


# uvloop waits in whole milliseconds: an earlier timer would keep a core busy.
_TICK_SECONDS = 0.001


class _Clock:
    """Wakes each stream when its next chunk is due, to the millisecond."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, _Connection]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def wake(self, stream: "_Connection", at: float) -> None:
        self._count += 1
        heappush(self._due, (at, self._count, stream))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(at, self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._due and self._due[0][0] <= now:
            at, _, stream = heappop(self._due)
            following = stream.send_chunk(at)
            if following is not None:
                self._count += 1
                heappush(self._due, (following, self._count, stream))
        self._timer = loop.call_at(max(self._due[0][0], now + _TICK_SECONDS), self._run) if self._due else None


class _Connection(asyncio.Protocol):
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._received = b""
        self._tokens = self._sent = 0
        self._pause = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._sent = self._tokens

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received)
        if head_end < 0 or length is None or len(self._received) < head_end + 4 + int(length[1]):
            return
        request, self._received = self._received, b""
        wanted = _WANTED.search(request)
        if wanted is None:
            self._transport.write(_ACCEPTED)
            return
        self._tokens, self._sent, self._pause = int(wanted[1]), 0, 1 / int(wanted[2])
        self._transport.write(_HEAD)
        following = self.send_chunk(asyncio.get_running_loop().time())
        if following is not None:
            self._clock.wake(self, following)

    def send_chunk(self, due: float) -> float | None:
        """Send the chunk that is due; returns when the next one is, or None after the last."""
        if self._sent >= self._tokens:
            return None
        before, after = _EVENTS[self._sent % len(_EVENTS)]
        self._sent += 1
        chunk = b"%s%019d%s" % (before, time.monotonic_ns(), after)
        if self._sent == self._tokens:
            self._transport.write(chunk + _ending(self._tokens))
            return None
        self._transport.write(chunk)
        return due + self._pause


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    clock = _Clock()
    server = await loop.create_server(lambda: _Connection(clock), "127.0.0.1", 0, backlog=4_096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
