"""uvicorn's HTTP protocol with limits that uvicorn lacks: on connections, on requests that arrive slowly, on heads
without an end, and on clients that do not read their answers."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metering.api.connections import CONNECTIONS_DROPPED, ConnectionLimits, Connections, Phase

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
# A client that reads its answer more slowly than this is not reading it.
MIN_BYTES_PER_SECOND = 1024
_LOOK_SECONDS = 1.0

# The kernel takes no more than this of what it cannot send yet. Else it takes megabytes for a client that does not
# read, and the copying delays all others.
_MAX_UNSENT_BYTES = 64 * 1024

_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 2\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What clients may do. A request has `request_time` to arrive, and an answer `send_time` to move on."""

    connections: ConnectionLimits
    request_time: timedelta
    send_time: timedelta


class _Transport:
    """A transport that counts what is written, and ignores everything once it is closing.

    A client that has left is nothing unusual; uvloop raises an exception for each call after that.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self.written += len(data)
            self._transport.write(data)

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if not self._transport.is_closing():
            self._transport.close()

    def unsent(self) -> int:
        """How many bytes the kernel has not taken yet; 0 once it is closed."""
        with contextlib.suppress(RuntimeError):
            return self._transport.get_write_buffer_size()
        return 0


class LimitedProtocol(HttpToolsProtocol):
    """One connection of a client. `limited_protocol` makes the class of a server."""

    limits: ClassVar[ServerLimits]
    open_connections: ClassVar[Connections]

    transport: Any
    _late: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None
    _refused = False
    _head_bytes = 0
    _reading_head = True
    _requests_read = 0
    # When the answer last moved on, and how much of it had been sent by then.
    _moved_at = 0.0
    _moved_sent = 0

    def connection_made(self, transport: Any) -> None:
        quiet: Any = _Transport(transport)
        peer = transport.get_extra_info("peername")
        if not self.open_connections.admit(self, peer[0] if isinstance(peer, tuple) else None):
            self._refused = True
            quiet.write(_REFUSED)
            quiet.close()
            return
        _bound_kernel_buffer(transport)
        super().connection_made(quiet)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        read_before = self._requests_read if self._reading_head else -1
        super().data_received(data)
        if not self._reading_head or self._requests_read != read_before:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading_head = True
        self._expect_request()
        if self.cycle is None or self.cycle.response_complete:
            self.open_connections.note(self, Phase.RECEIVING)

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._reading_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reading_head = True
        self._requests_read += 1
        self._stop(self._late)
        self._late = None
        if self.cycle is not None and not self.cycle.response_complete:
            self.open_connections.note(self, Phase.ANSWERING)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self.open_connections.note(self, Phase.STALLED if self.transport.unsent() else Phase.IDLE)
        self._watch_sending()

    def pause_writing(self) -> None:
        if self._refused:
            return
        super().pause_writing()
        self.open_connections.note(self, Phase.STALLED)
        self._watch_sending()

    def resume_writing(self) -> None:
        if self._refused:
            return
        super().resume_writing()
        done = self.cycle is None or (self.cycle.response_complete and not self.pipeline)
        self.open_connections.note(self, Phase.IDLE if done else Phase.ANSWERING)

    def eof_received(self) -> None:
        if not self._refused:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_connections.remove(self)
        self._stop(self._late)
        self._stop(self._look)
        if not self._refused:
            super().connection_lost(exc)

    def drop(self, reason: str) -> None:
        """Close it now: what was not sent yet is dropped."""
        if not self._refused:
            CONNECTIONS_DROPPED.labels(reason).inc()
            self.transport.abort()

    def _expect_request(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.limits.request_time.total_seconds(), self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            CONNECTIONS_DROPPED.labels("late").inc()
            self.transport.close()
            self._watch_sending()

    def _watch_sending(self) -> None:
        """Look every second, while something is unsent, whether the client reads."""
        if self._look is None and self.transport.unsent():
            self._moved_at, self._moved_sent = self.loop.time(), self._sent()
            self._look = self.loop.call_later(_LOOK_SECONDS, self._look_at_sending)

    def _look_at_sending(self) -> None:
        self._look = None
        if not self.transport.unsent():
            return
        now, sent, seconds = self.loop.time(), self._sent(), self.limits.send_time.total_seconds()
        if now - self._moved_at >= seconds:
            if sent - self._moved_sent < MIN_BYTES_PER_SECOND * (now - self._moved_at):
                self.drop("stalled")
                return
            self._moved_at, self._moved_sent = now, sent
        self._look = self.loop.call_later(min(_LOOK_SECONDS, seconds), self._look_at_sending)

    def _sent(self) -> int:
        sent: int = self.transport.written - self.transport.unsent()
        return sent

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


def _bound_kernel_buffer(transport: Any) -> None:
    connection = transport.get_extra_info("socket")
    # Not every system has it, and a Unix socket has not.
    with contextlib.suppress(OSError, AttributeError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT_BYTES)


def limited_protocol(limits: ServerLimits) -> type[LimitedProtocol]:
    """The protocol of one server; all its connections count together."""
    members = {"limits": limits, "open_connections": Connections(limits.connections)}
    return type("ServerProtocol", (LimitedProtocol,), members)
