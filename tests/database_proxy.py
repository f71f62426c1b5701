"""A TCP proxy in front of PostgreSQL that goes silent, as a paused host, or breaks, as a killed server does."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import URL, make_url

from tests.database import Database

# The two sides of a connection: towards the client, and towards PostgreSQL.
_Ends = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class DatabaseProxy:
    """Forwards bytes. Silenced connections stay open, and what is sent on them is swallowed."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self._silenced: set[_Ends] = set()
        self._open: set[_Ends] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        # Whether connections that are opened from now on are silent, too.
        self.silent = False
        # The pieces that clients may still send before every connection breaks; None for any number of them.
        self._left: int | None = None
        # What a connection sends last before it goes silent, and how often it is sent until then.
        self._last_words: tuple[bytes, int] | None = None
        self.lost = threading.Event()
        # Whether the other side of a silenced connection is told that one of them has left.
        self.tells_of_ends = True
        self._abandoned: list[asyncio.StreamWriter] = []
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def silence(self, *, new_ones: bool) -> None:
        """Every open connection goes silent for good; new ones do until `speak`, or not at all."""
        self.silent = new_ones
        self._silenced |= self._open

    def silence_after(self, words: bytes, *, times: int = 1) -> None:
        """The connection that sends these words next, or the `times`th time, goes silent after them."""
        self.lost.clear()
        self._last_words = (words, times)

    def speak(self) -> None:
        """New connections work."""
        self.silent = False

    def break_after(self, pieces: int) -> None:
        """Every connection breaks when clients send more pieces than this, and new ones then do at once."""
        self._left = pieces

    def mend(self) -> None:
        """New connections work again, and none breaks."""
        self._left = None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._left == 0:
            writer.transport.abort()
            return
        up_reader, up_writer = await self._connect()
        me = (writer, up_writer)
        self._open.add(me)
        if self.silent:
            self._silenced.add(me)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await asyncio.gather(self._pump(me, reader, up_writer), self._pump(me, up_reader, writer))
        finally:
            self._open.discard(me)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to PostgreSQL: by the folder of its socket, or over TCP."""
        if (folder := self._target.query.get("host")) is not None:
            return await asyncio.open_unix_connection(Path(str(folder)) / ".s.PGSQL.5432")
        return await asyncio.open_connection(self._target.host, self._target.port)

    async def _pump(self, me: _Ends, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            if writer is me[1] and self._left is not None:
                if self._left == 0:
                    self._break()
                    return
                self._left -= 1
            if me not in self._silenced:
                writer.write(chunk)
                await writer.drain()
                if writer is me[1]:
                    self._listen(me, chunk)
        if me in self._silenced and not self.tells_of_ends:
            self._abandoned.append(writer)
        else:
            writer.close()

    def _listen(self, me: _Ends, chunk: bytes) -> None:
        if self._last_words is None or self._last_words[0] not in chunk:
            return
        words, times = self._last_words
        self._last_words = (words, times - 1) if times > 1 else None
        if times == 1:
            self._silenced.add(me)
            self.lost.set()

    def _break(self) -> None:
        for ends in self._open:
            for writer in ends:
                writer.transport.abort()


@contextmanager
def proxied(database: Database) -> Iterator[tuple[DatabaseProxy, Database]]:
    """A proxy in front of a database, and the database as it is reached through it."""
    url = make_url(database.url)
    proxy = DatabaseProxy(url)
    proxy.start()
    through = url.set(host="127.0.0.1", port=proxy.port, query={})
    try:
        yield proxy, replace(database, url=through.render_as_string(hide_password=False))
    finally:
        proxy.stop()
