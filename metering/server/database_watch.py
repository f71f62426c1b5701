"""Watches the database while an API process runs: that it is there, has our schema, and cannot lose commits.

A process starts without a database and waits for it. It has a connection and a thread of its own for this, so that
health is known whatever else runs.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from prometheus_client import Gauge
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError, UnsafeDatabaseError, check_safe, transaction
from metering.db.schema import check_usable
from metering.server.queries import WorkHealth, work_health

log = logging.getLogger(__name__)

DATABASE_SAFE = Gauge(
    "metering_database_safe",
    "1 while PostgreSQL's settings keep commits safe, 0 while it could lose them",
    multiprocess_mode="livemin",
)

CHECK_SECONDS = 1.0
# Readiness is asked for by anyone, and costs a query at most this often.
_KEEP_SECONDS = 1.0
_ANSWER_SECONDS = 3.0


class DatabaseWatch:
    """Checks the database every second. Use as: `await start()`, then the properties, then `await stop()`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database-watch")
        self._task: asyncio.Task[None] | None = None
        self._is_current = False
        self._said = ""
        self._is_reached = False
        self._unsafe: UnsafeDatabaseError | None = None
        self._work: WorkHealth | None = None
        self._work_at = float("-inf")
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Check once, then again and again."""
        await self._check()
        self._task = asyncio.create_task(self._run(), name="database-watch")

    async def stop(self) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    def require_schema(self) -> None:
        """Refuse everything until the database was found to have the schema of this code.

        Raises:
            DatabaseUnavailableError: it was not reached yet, or has another schema.
        """
        if not self._is_current:
            raise DatabaseUnavailableError("the database is not ready yet")

    def require_durable(self) -> None:
        """Refuse to store anything while it could be lost.

        Raises:
            DatabaseUnavailableError: as `require_schema`.
            UnsafeDatabaseError: PostgreSQL's settings can lose commits.
        """
        self.require_schema()
        if self._unsafe is not None:
            raise self._unsafe

    async def work(self) -> WorkHealth:
        """The state of the finalizer's work, at most a second old.

        Raises:
            DatabaseUnavailableError, UnsafeDatabaseError: as `require_durable`, or the database does not answer.
        """
        self.require_durable()
        async with self._asking:
            if not self._is_reached:
                raise DatabaseUnavailableError("PostgreSQL does not answer")
            if self._work is None or monotonic() - self._work_at > _KEEP_SECONDS:
                self._work = None
                self._work = await self._ask()
                self._work_at = monotonic()
            return self._work

    async def _ask(self) -> WorkHealth:
        asked = asyncio.get_running_loop().run_in_executor(self._thread, self._read_work)
        try:
            return await asyncio.wait_for(asked, _ANSWER_SECONDS)
        except TimeoutError as error:
            self._is_reached = False  # until a check finds it again
            raise DatabaseUnavailableError("PostgreSQL does not answer") from error

    def _read_work(self) -> WorkHealth:
        try:
            with transaction(self._engine) as connection:
                return work_health(connection, now=utc_now())
        except SQLAlchemyError as error:
            raise DatabaseUnavailableError("PostgreSQL does not answer") from error

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self._check()

    async def _check(self) -> None:
        loop = asyncio.get_running_loop()
        problem = await loop.run_in_executor(self._thread, self._find_problem)
        if isinstance(problem, UnsafeDatabaseError):
            self._unsafe = problem
        elif problem is None:
            self._unsafe = None
        self._is_reached = problem is None
        DATABASE_SAFE.set(self._unsafe is None)
        self._say(problem)

    def _find_problem(self) -> MeteringError | None:
        # A new connection, because settings of a role or a database apply to new ones only.
        self._engine.dispose()
        try:
            if not self._is_current:
                check_usable(self._engine)
                self._is_current = True
            check_safe(self._engine)
        except MeteringError as error:
            return error
        except SQLAlchemyError as error:
            return DatabaseUnavailableError(str(error).splitlines()[0])
        return None

    def _say(self, problem: MeteringError | None) -> None:
        """One line for each change."""
        says = str(problem) if problem is not None else ""
        if says == self._said:
            return
        self._said = says
        if problem is None:
            log.info("the database is ready")
        elif isinstance(problem, UnsafeDatabaseError):
            log.error("events are refused: PostgreSQL could lose them", extra={"error": says})
        else:
            log.warning("the database is not ready, requests get 503", extra={"error": says})
