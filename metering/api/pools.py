"""The pools of database connections of an API process, beside that of its requests and that of the ingest writer.

None waits for another's: keys are looked up, health is checked and metrics are read whatever the requests do.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from metering.db.engine import service_engine
from metering.exports.download import MAX_CONCURRENT, STALL_SECONDS
from metering.server.bootstrap import database_url
from metering.server.settings import Settings

# What these ask for takes milliseconds.
_QUICK = timedelta(seconds=3)
# Admitting holds waits for bookings of the same customers to commit.
_HOLDS = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """An engine for each purpose."""

    keys: Engine
    watch: Engine
    metrics: Engine
    exports: Engine
    holds: Engine

    def close(self) -> None:
        """Close all connections."""
        for engine in (self.keys, self.watch, self.metrics, self.exports, self.holds):
            engine.dispose()


def open_pools(settings: Settings) -> Pools:
    """The pools of an API process; they connect when they are first used."""
    url, slow = database_url(settings), settings.statement_timeout
    return Pools(
        keys=service_engine(url, pool_size=1, overflow=0, wait=_QUICK, statement_timeout=_QUICK),
        watch=service_engine(url, pool_size=1, overflow=0, wait=_QUICK, statement_timeout=_QUICK),
        metrics=service_engine(url, pool_size=1, overflow=0, wait=_QUICK, statement_timeout=_QUICK),
        holds=service_engine(
            url,
            pool_size=1,
            overflow=0,
            wait=_QUICK,
            statement_timeout=_HOLDS,
            idle_timeout=_HOLDS,
            by_key=True,
        ),
        exports=service_engine(
            url,
            pool_size=MAX_CONCURRENT,
            overflow=0,
            wait=_QUICK,
            statement_timeout=slow,
            # A client may take this long to read what was read for it.
            idle_timeout=slow + timedelta(seconds=STALL_SECONDS),
        ),
    )
