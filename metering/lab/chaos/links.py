"""TCP links that can be cut, go silent, stay half-open or become slow: proxies to PostgreSQL, Valkey and the API.

The kernel of this machine answers keepalives on both sides of a proxy, so a silent link looks like a peer that is
connected and does not answer: the harder case.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16
_SLOW_SECONDS = 0.1
HOST = "127.0.0.1"


class Trouble(StrEnum):
    """What can be wrong with a link."""

    CUT = "cut"  # closes all connections and refuses new ones
    SILENT = "silent"  # all connections, new ones too, stay open and carry nothing
    HALF_OPEN = "half open"  # the connections of before carry nothing, new ones work
    SLOW = "slow"  # each piece waits


@dataclass(slots=True, eq=False)
class _Connection:
    writers: tuple[asyncio.StreamWriter, ...]
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Link:
    """A listening port on the loopback whose connections go to `target`: a socket's path, or a port."""

    def __init__(self, target: Path | int) -> None:
        self._target = target
        self._connections: set[_Connection] = set()
        self._trouble: Trouble | None = None
        self.carried = 0
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """The number of connections that are open now."""
        return len(self._connections)

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)

    async def close(self) -> None:
        """Stop listening, and abort the connections."""
        assert self._server is not None
        self._server.close()
        self._abort(self._connections)

    async def make_trouble(self, trouble: Trouble) -> int:
        """Make trouble; returns the number of connections that it meets."""
        met = len(self._connections)
        self._trouble = trouble
        if trouble is Trouble.CUT:
            self._abort(self._connections)
        elif trouble in (Trouble.SILENT, Trouble.HALF_OPEN):
            for each in self._connections:
                each.gate.clear()
        return met

    async def end_trouble(self, *, resume: bool) -> None:
        """End the trouble. Connections that carried nothing go on with `resume`, and are aborted without."""
        self._trouble = None
        silent = {each for each in self._connections if not each.gate.is_set()}
        if not resume:
            self._abort(silent)
        for each in silent:
            each.gate.set()

    def _abort(self, connections: set[_Connection]) -> None:
        for each in list(connections):
            each.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._trouble is Trouble.CUT:
            writer.transport.abort()
            return
        try:
            if isinstance(self._target, Path):
                far_reader, far_writer = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection((writer, far_writer))
        if self._trouble is not Trouble.SILENT:
            connection.gate.set()
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump(connection, reader, far_writer), self._pump(connection, far_reader, writer)
            )
        finally:
            self._connections.discard(connection)
            connection.abort()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await connection.gate.wait()
                if self._trouble is Trouble.SLOW:
                    await asyncio.sleep(_SLOW_SECONDS)
                writer.write(chunk)
                self.carried += 1
                await writer.drain()
            await connection.gate.wait()
        # One side has ended; both protocols are over then.
        connection.abort()


class Links:
    """The links of a run, in one thread of their own."""

    def __init__(self, links: dict[str, Link]) -> None:
        self._links = links
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)

    def make_trouble(self, name: str, trouble: Trouble) -> int:
        """Make trouble on a link; returns the number of connections that it meets."""
        met: int = self._call(self._links[name].make_trouble(trouble))
        return met

    def end_trouble(self, name: str, *, resume: bool) -> None:
        """End a link's trouble."""
        self._call(self._links[name].end_trouble(resume=resume))

    def connections(self, name: str) -> int:
        """The number of connections of a link."""
        return self._links[name].connections

    def carried(self, name: str) -> int:
        """The number of pieces that a link has carried, both ways."""
        return self._links[name].carried

    def port(self, name: str) -> int:
        """The port of a link."""
        return self._links[name].port

    def start(self) -> None:
        """Open all links."""
        self._thread.start()
        for link in self._links.values():
            self._call(link.open())

    def stop(self) -> None:
        """Close all links."""
        for link in self._links.values():
            self._call(link.close())
        self._call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)


async def _cancel_others() -> None:
    """End all tasks of this loop but the caller's."""
    others = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def open_links(targets: dict[str, Path | int]) -> Iterator[Links]:
    """Links to the targets, by name, until the block ends."""
    links = Links({name: Link(target) for name, target in targets.items()})
    links.start()
    try:
        yield links
    finally:
        links.stop()
