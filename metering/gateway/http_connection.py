"""One HTTP/1.1 connection to an upstream: sends a request, and gives its answer as it arrives.

The parser is llhttp (httptools). Bytes that have arrived are never lost: an error of the connection is raised only
after they were read. Reading is bounded: above a limit, the socket is not read until the buffer is taken.
"""

import asyncio
import zlib
from typing import cast

import httptools

from metering.core.errors import MeteringError

# A read gives at most about this much, so that one stream does not hold up the others.
READ_BYTES = 16 << 10
_HIGH_WATER_BYTES = 256 << 10
_MAX_HEAD_BYTES = 128 << 10
_MAX_INFLATED_BYTES = 16 << 20
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_CODED = frozenset({b"gzip", b"x-gzip", b"deflate"})


class HttpError(MeteringError):
    """The connection broke, or what arrived is not HTTP; the message names what happened."""


class HttpTimeoutError(HttpError):
    """The peer was silent for too long."""


class _Inflater:
    """Decodes a gzip or deflate body as it arrives."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._first = True

    def feed(self, data: bytes) -> bytes:
        try:
            inflated = self._inner.decompress(data, _MAX_INFLATED_BYTES)
        except zlib.error as error:
            if not self._first:
                raise HttpError(f"the body is damaged: {error}") from error
            # Some servers call raw deflate "deflate".
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                inflated = self._inner.decompress(data, _MAX_INFLATED_BYTES)
            except zlib.error:
                raise HttpError(f"the body is damaged: {error}") from error
        self._first = False
        if self._inner.unconsumed_tail:
            raise HttpError(f"a part of the body inflates to more than {_MAX_INFLATED_BYTES} bytes")
        if self._inner.eof and (rest := self._inner.unused_data):
            self._inner, self._first = zlib.decompressobj(_ZLIB_OR_GZIP), True
            return inflated + self.feed(rest)
        return inflated


class HttpConnection(asyncio.Protocol):
    """A connection, for one exchange at a time: `request`, then `head`, then `read` until it gives nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begin(read_timeout=None)
        self.idle_since = 0.0

    def _begin(self, *, read_timeout: float | None) -> None:
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_lf_after_cr=True,
            lenient_optional_cr_before_lf=True,
        )
        self._parser = parser
        self._read_timeout = read_timeout
        self._last_received = self._loop.time()
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.arrived_bytes = 0
        self._head_bytes = 0
        self._head_done = False
        self._complete = False
        self._ends_with_connection = False
        self._keeps_alive = False
        self._error: HttpError | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._paused = False
        self._inflater: _Inflater | None = None

    # What the owner of the connection calls

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether the answer was read to its end, and the server keeps the connection."""
        return self.is_open and self._complete and self._keeps_alive and not self._body

    def request(self, head: bytes, body: bytes, *, read_timeout: float) -> None:
        """Send a request; `read_timeout` bounds each silence of the server while a reader waits for it."""
        assert self._transport is not None
        self._begin(read_timeout=read_timeout)
        self._timer = self._loop.call_later(read_timeout, self._look_for_silence)
        self._transport.write(head + body)

    async def head(self) -> None:
        """Wait for `status` and `headers`.

        Raises:
            HttpError: the connection broke before.
        """
        while not self._head_done:
            await self._wait()

    async def read(self) -> bytes:
        """Some of the body as soon as there is any; nothing at its end.

        Raises:
            HttpError: the connection broke; everything that arrived before was read.
        """
        while not self._body and not self._complete:
            await self._wait()
        if not self._body:
            return b""
        data = self._take()
        if self._paused and self._body_bytes < _HIGH_WATER_BYTES // 2:
            self._paused = False
            if self.is_open:
                cast(asyncio.Transport, self._transport).resume_reading()
        return data

    def close(self) -> None:
        """Close at once, whatever is in progress; the upstream notices without delay."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def close_sending(self) -> bool:
        """Close our side only: what the server still writes is read. False where that cannot be, as with TLS."""
        if self._transport is None or self._transport.is_closing() or not self._transport.can_write_eof():
            return False
        self._keeps_alive = False
        self._transport.write_eof()
        return True

    def rest(self) -> None:
        """The exchange is over and the connection is kept."""
        self._stop_timer()
        self.idle_since = self._loop.time()

    def _take(self) -> bytes:
        if self._body_bytes <= READ_BYTES:
            data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body.clear()
            self._body_bytes = 0
            return data
        whole = b"".join(self._body)
        self._body = [whole[READ_BYTES:]]
        self._body_bytes = len(whole) - READ_BYTES
        return whole[:READ_BYTES]

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: HttpError) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _look_for_silence(self) -> None:
        """One timer an exchange: it looks when the server was last heard, and comes back later."""
        assert self._read_timeout is not None
        left = self._last_received + self._read_timeout - self._loop.time()
        if left <= 0 and self._waiter is not None:
            self._fail(HttpTimeoutError(f"nothing was received for {self._read_timeout:g} s"))
            return
        self._timer = self._loop.call_later(left if left > 0 else self._read_timeout, self._look_for_silence)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        self.arrived_bytes += len(data)
        if self._complete or self._error is not None:
            # Bytes without a request: the connection cannot be used again.
            self._keeps_alive = False
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(HttpError("the server wants another protocol"))
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._fail(cause if isinstance(cause, HttpError) else HttpError(f"it is no valid HTTP: {error}"))
        self._wake()
        if self._body_bytes > _HIGH_WATER_BYTES and not self._paused and self.is_open:
            self._paused = True
            cast(asyncio.Transport, self._transport).pause_reading()

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        self._transport = None
        self._keeps_alive = False
        if self._complete:
            return
        if self._ends_with_connection and self._head_done and error is None and self._error is None:
            self._complete = True
            self._wake()
            return
        self._fail(HttpError("the connection was closed" if error is None else f"{type(error).__name__}: {error}"))

    # What the parser calls

    def on_message_begin(self) -> None:
        self.headers = []
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > _MAX_HEAD_BYTES:
            raise HttpError(f"the headers are larger than {_MAX_HEAD_BYTES} bytes")
        # After the body these are trailers, which are not passed on.
        if not self._head_done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.status = status
        known = dict(self.headers)
        chunked = b"chunked" in known.get(b"transfer-encoding", b"").lower()
        self._ends_with_connection = not chunked and b"content-length" not in known
        if known.get(b"content-encoding", b"").strip().lower() in _CODED:
            self._inflater = _Inflater()
            self.headers = [header for header in self.headers if header[0] != b"content-encoding"]
        self._head_done = True

    def on_body(self, data: bytes) -> None:
        if self._inflater is not None:
            data = self._inflater.feed(data)
        if data:
            self._body.append(data)
            self._body_bytes += len(data)

    def on_message_complete(self) -> None:
        if not self._head_done:
            return
        self._complete = True
        self._keeps_alive = self._parser.should_keep_alive() and not self._ends_with_connection
