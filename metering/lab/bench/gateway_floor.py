"""The floor of `metering bench gateway`: a bare TCP pass-through in Python, which understands nothing.

Run as `python -m metering.lab.bench.gateway_floor UPSTREAM_PORT`; it prints its port.
"""

import asyncio
import sys
from typing import cast

import uvloop


class _Inner(asyncio.Protocol):
    """The connection to the upstream."""

    def __init__(self, outer: asyncio.Transport) -> None:
        self._outer = outer

    def data_received(self, data: bytes) -> None:
        self._outer.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._outer.close()


class _Outer(asyncio.Protocol):
    """The connection of a client."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._waiting = b""
        self._inner: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._opening = asyncio.ensure_future(self._open(cast(asyncio.Transport, transport)))

    async def _open(self, outer: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        self._inner, _ = await loop.create_connection(lambda: _Inner(outer), "127.0.0.1", self._upstream_port)
        self._inner.write(self._waiting)

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            self._waiting += data
        else:
            self._inner.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        if self._inner is not None:
            self._inner.close()


async def _serve(upstream_port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Outer(upstream_port), "127.0.0.1", 0, backlog=4_096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
