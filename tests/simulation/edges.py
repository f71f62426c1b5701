"""The edges of transactions: where a process can lose its connection, or have to let another one go first."""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import psycopg
from psycopg import AsyncConnection, AsyncTransaction
from sqlalchemy import Connection, Engine, event

from metering.db.engine import service_conninfo


class Edge(StrEnum):
    """Before its first statement, before its commit, and after it, when the answer is not known yet."""

    BEGIN = "begin"
    BEFORE_COMMIT = "before commit"
    AFTER_COMMIT = "after commit"


class Edges:
    """The edges of one process. At each it may wait for its turn, and lose its connection.

    `cut_in` counts the edges until that happens: the backend is ended from outside, as a failover does.
    """

    def __init__(self, url: str, *, reached: Counter[str]) -> None:
        self._admin = psycopg.connect(url, autocommit=True)
        self._reached = reached
        self._lock = threading.Lock()
        self.cut_in: int | None = None
        self.is_cut = False
        self.wait_for_turn: Callable[[int], None] | None = None

    def close(self) -> None:
        self._admin.close()

    def arm(self, cut_in: int | None) -> None:
        """Lose the connection at this edge from now, or at none."""
        self.cut_in, self.is_cut = cut_in, False

    def attach(self, engine: Engine) -> None:
        """Every transaction of the engine reaches its edges."""
        do_commit = engine.dialect.do_commit

        def commit(connection: Any) -> None:
            pid = connection.driver_connection.info.backend_pid
            self.reach(Edge.BEFORE_COMMIT, pid)
            do_commit(connection)
            self.reach(Edge.AFTER_COMMIT, pid)

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            raw = connection.connection.driver_connection
            assert isinstance(raw, psycopg.Connection)
            self.reach(Edge.BEGIN, raw.info.backend_pid)

        engine.dialect.do_commit = commit  # type: ignore[method-assign]

    async def connect(self, url: str) -> AsyncConnection:
        """A connection as the ingest writer has it, whose transactions reach their edges."""
        edges = self

        class Edged(AsyncConnection):
            @asynccontextmanager
            async def transaction(self, *given: Any, **named: Any) -> AsyncIterator[AsyncTransaction]:
                pid = self.info.backend_pid
                edges.reach(Edge.BEGIN, pid)
                async with super().transaction(*given, **named) as begun:
                    yield begun
                    edges.reach(Edge.BEFORE_COMMIT, pid)
                edges.reach(Edge.AFTER_COMMIT, pid)

        return await Edged.connect(service_conninfo(url), autocommit=True)

    def reach(self, edge: Edge, pid: int) -> None:
        """Wait for the turn, and cut the connection if it is time.

        Raises:
            psycopg.OperationalError: the answer to the commit was lost.
        """
        if self.wait_for_turn is not None:
            self.wait_for_turn(pid)
        if self.cut_in is None:
            return
        with self._lock:
            self.cut_in -= 1
            if self.cut_in >= 0:
                return
            self.cut_in, self.is_cut = None, True
            self._reached[f"cut {edge}"] += 1
            self._admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        if edge is Edge.AFTER_COMMIT:
            raise psycopg.OperationalError("the connection was lost while the commit was under way")
