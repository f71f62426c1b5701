"""The connections to all upstreams: opened when needed, kept for the next request, bounded in number and age."""

import asyncio
import ssl
from collections import defaultdict, deque
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit

from metering.gateway.http_connection import HttpConnection, HttpError, HttpTimeoutError

_MAX_CONNECTIONS = 4_000
_KEPT_PER_SERVER = 200
_KEPT_SECONDS = 30.0


class Server(NamedTuple):
    """Where to connect to; `address` is its value for the Host header."""

    secure: bool
    host: str
    port: int
    address: str


class UnreachableError(HttpError):
    """No connection can be made."""


@cache
def server_of(url: str) -> tuple[Server, str]:
    """The server in a URL, and the path there, without a slash at its end."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    shown = f"[{host}]" if ":" in host else host.encode("idna").decode()
    address = shown if parts.port is None else f"{shown}:{port}"
    return Server(secure, host, port, address), parts.path.rstrip("/")


class Connections:
    """A pool. Connections of one loop; close it at the end."""

    def __init__(self) -> None:
        self._kept: dict[Server, deque[HttpConnection]] = defaultdict(deque)
        self._room = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._tls: ssl.SSLContext | None = None

    async def take(self, server: Server, *, timeout: float) -> HttpConnection:
        """A connection to the server, kept or new; give it back with `give_back`.

        Raises:
            UnreachableError: no connection can be made.
            HttpTimeoutError: not within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._room.acquire()
                try:
                    return self._kept_connection(server) or await self._open(server)
                except BaseException:
                    self._room.release()
                    raise
        except TimeoutError as error:
            raise HttpTimeoutError(f"no connection within {timeout:g} s") from error

    def give_back(self, server: Server, connection: HttpConnection) -> None:
        """Keep the connection if it can be used again; otherwise close it at once."""
        self._room.release()
        kept = self._kept[server]
        if connection.is_reusable and len(kept) < _KEPT_PER_SERVER:
            connection.rest()
            kept.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for kept in self._kept.values():
            for connection in kept:
                connection.close()
        self._kept.clear()

    def _kept_connection(self, server: Server) -> HttpConnection | None:
        """The connection that was used last; older ones that have expired are closed."""
        kept = self._kept[server]
        oldest = asyncio.get_running_loop().time() - _KEPT_SECONDS
        while kept and (kept[0].idle_since < oldest or not kept[0].is_open):
            kept.popleft().close()
        while kept:
            connection = kept.pop()
            if connection.is_reusable:
                return connection
            connection.close()
        return None

    async def _open(self, server: Server) -> HttpConnection:
        loop = asyncio.get_running_loop()
        if server.secure and self._tls is None:
            # Reading the certificates takes some milliseconds.
            self._tls = await asyncio.to_thread(_tls_context)
        try:
            _, connection = await loop.create_connection(
                HttpConnection,
                server.host,
                server.port,
                ssl=self._tls if server.secure else None,
                server_hostname=server.host if server.secure else None,
            )
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"{server.address}: {type(error).__name__}: {error}") from error
        return connection


def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
