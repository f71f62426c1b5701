"""The gateway's server process: its listening socket, its signals, and clients that close only their own side."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from metering.gateway.app import create_app
from metering.gateway.environment import GatewayConfigError
from metering.gateway.gateway import Gateway
from metering.gateway.routing import Routing
from metering.gateway.settings import GatewaySettings, settings_from_environment
from metering.serving.server import SharingServer

log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 75
BACKLOG = 2_048
_SWITCH_SECONDS = 0.001
# After the grace, for the last errors and stream-ends.
_LAST_SECONDS = 3
# When a client has closed its side: it is asked with an interim response, and looked at after these pauses.
_STILL_THERE = b"HTTP/1.1 102 Processing\r\n\r\n"
_LOOKS_AFTER_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0)
_TCP_CLOSE = 7


class GatewayProtocol(HttpToolsProtocol):
    """A client's connection. The application gets the transport, to end connections that take nothing.

    A client that has sent its request may close its side and wait for the answer. That looks like a client that
    has gone; the difference shows when something is sent to it.
    """

    _looks: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}

    def eof_received(self) -> bool | None:  # type: ignore[override]
        cycle = self.cycle
        connection = self.transport.get_extra_info("socket")
        if cycle is None or cycle.more_body or cycle.response_complete or connection is None:
            return None
        if cycle.scope["http_version"] != "1.1":
            return None
        cycle.keep_alive = False
        if cycle.response_started and not cycle.chunked_encoding:
            return None
        self.transport.write(_comment() if cycle.response_started else _STILL_THERE)
        self._look_again(0)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looks is not None:
            self._looks.cancel()
        super().connection_lost(exc)

    def _look_again(self, turn: int) -> None:
        if turn < len(_LOOKS_AFTER_SECONDS):
            self._looks = self.loop.call_later(_LOOKS_AFTER_SECONDS[turn], self._look, turn)

    def _look(self, turn: int) -> None:
        """Close if the client has answered with a reset."""
        connection = self.transport.get_extra_info("socket")
        if _is_reset(connection):
            self.transport.abort()
        else:
            self._look_again(turn + 1)


def _comment() -> bytes:
    """A comment of an event stream as a chunk: it shows nothing to a client that is there."""
    return b"3\r\n:\n\n\r\n"


def _is_reset(connection: socket.socket) -> bool:
    try:
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except (OSError, AttributeError):
        return True


class _Server(SharingServer):
    """uvicorn's server, that ends running streams in good order when it stops."""

    def __init__(self, config: uvicorn.Config, settings: GatewaySettings, channel: socket.socket | None) -> None:
        super().__init__(config, channel=channel)
        self._settings = settings
        self._gateway: Gateway | None = None

    def started_with(self, gateway: Gateway) -> None:
        self._gateway = gateway
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gateway is not None:
            self._gateway.is_stopping = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more; end what still runs after the grace, or at once on a second signal."""
        ending = asyncio.create_task(self._end_streams())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_streams(self) -> None:
        gateway = self._gateway
        if gateway is None:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.grace_seconds
        while gateway.running and loop.time() < until and not self.force_exit:
            await asyncio.sleep(0.05)
        gateway.stop_running()

    def _reload(self) -> None:
        """Read upstreams and keys again; a file that is wrong changes nothing."""
        try:
            settings = settings_from_environment()
        except GatewayConfigError as error:
            log.error("configuration not reloaded, the old one stays in use: %s", error)
            return
        if self._gateway is not None:
            self._gateway.reload(Routing(upstreams=settings.upstreams, keys=settings.keys))
            log.info("reloaded %d upstreams and %d keys", len(settings.upstreams), len(settings.keys))


def serve(
    *, settings: GatewaySettings, listening: socket.socket | None = None, channel: socket.socket | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; then accept no new streams, and give running ones their grace.

    The connections of a listening socket, or what a supervising process hands on by its channel.
    """
    server: _Server

    def on_start(gateway: Gateway) -> None:
        server.started_with(gateway)

    config = uvicorn.Config(
        create_app(settings=settings, on_start=on_start),
        http=GatewayProtocol,
        loop="uvloop",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.grace_seconds) + _LAST_SECONDS,
        backlog=BACKLOG,
    )
    server = _Server(config, settings, channel)
    # The emitter's threads write starts to disk, which streams wait for: they get their turn sooner.
    sys.setswitchinterval(_SWITCH_SECONDS)
    # What was made so far lives as long as the process: collections need not look at it.
    gc.freeze()
    log.info("process %d serves", os.getpid())
    server.run(sockets=None if listening is None else [listening])
