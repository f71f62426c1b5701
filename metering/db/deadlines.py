"""Connections that do not wait forever: each wait for PostgreSQL ends, whatever lies between it and us.

PostgreSQL ends a statement that runs too long, and the kernel ends a connection whose packets are not confirmed.
Neither helps when something in between, such as a proxy or a paused host, confirms packets and forwards nothing.
"""

from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event

ResultT = TypeVar("ResultT")

# A connection that was unused answers at once, or is broken.
_PING_SECONDS = 2.0
# PostgreSQL ends a statement first, if it is there.
_GRACE_SECONDS = 1.0

# A peer that confirms nothing for this long is gone; so is one that does not answer three probes.
TCP_OPTIONS: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# The same at PostgreSQL's end, where a COPY that waits for rows keeps its locks until the connection ends.
SERVER_TCP_OPTIONS = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000"
)


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection that is closed when PostgreSQL does not answer within `patience` seconds."""

    patience: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: there was none in time; the connection is closed.
        """
        # SQLAlchemy checks an unused connection outside a transaction; nothing else runs there.
        patience = _PING_SECONDS if self._autocommit else self.patience
        try:
            return super().wait(gen, interval=interval, timeout=timeout or patience)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # Still without an answer: the connection cannot be used again.
                self.pgconn.finish()
            raise


def connect_with_deadlines(engine: Engine, *, statement_timeout: timedelta) -> None:
    """Make an engine's connections give up soon after PostgreSQL should have ended a statement."""
    patience = statement_timeout.total_seconds() + _GRACE_SECONDS

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> DeadlineConnection:
        connection = DeadlineConnection.connect(*arguments, **parameters)
        connection.patience = patience
        return connection
