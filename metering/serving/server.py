"""uvicorn's server for a process that gets its connections from the supervising process."""

import asyncio
import contextlib
import logging
import signal
import socket

import uvicorn

from metering.serving.dealer import REPORT

log = logging.getLogger(__name__)

_AT_ONCE = 16


class SharingServer(uvicorn.Server):
    """Listens by itself, as uvicorn does, or takes connections from a channel."""

    def __init__(self, config: uvicorn.Config, *, channel: socket.socket | None = None) -> None:
        super().__init__(config)
        self._channel = channel
        self._taken = 0
        self._reported: tuple[int, int] | None = None
        self._beginning: set[asyncio.Task[object]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As of uvicorn; the first report tells that connections are welcome."""
        if self._channel is None:
            await super().startup(sockets)
            return
        await super().startup(sockets=[])
        self._channel.setblocking(False)
        asyncio.get_running_loop().add_reader(self._channel, self._take)
        self._report()

    async def on_tick(self, counter: int) -> bool:
        """As of uvicorn, ten times a second."""
        self._report()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As of uvicorn; connections that were not taken yet are closed."""
        self._leave()
        await super().shutdown(sockets)

    def _take(self) -> None:
        """Take what has come. Once the other side is closed, the supervising process is gone: stop."""
        if self._channel is None:
            return
        for _ in range(_AT_ONCE):
            try:
                _message, descriptors, _flags, _address = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                break
            except ConnectionError:
                descriptors = []
            if not descriptors:
                log.error("the supervising process is gone, stopping")
                self._leave()
                signal.raise_signal(signal.SIGTERM)
                return
            self._taken += 1
            self._begin(socket.socket(fileno=descriptors[0]))
        self._report()

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._beginning.add(task)
        task.add_done_callback(self._began)

    def _began(self, task: "asyncio.Task[object]") -> None:
        self._beginning.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("a connection ended before it began: %s", error)

    def _protocol(self) -> asyncio.Protocol:
        """As the server of uvicorn makes it for connections that it accepts."""
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def _report(self) -> None:
        current = (len(self.server_state.connections), self._taken)
        if self._channel is not None and current != self._reported:
            # The dealer is behind: the next report comes in a moment.
            with contextlib.suppress(OSError):
                self._channel.send(REPORT.pack(*current))
                self._reported = current

    def _leave(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None
