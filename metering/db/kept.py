"""A connection that is kept between transactions which follow each other closely."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from sqlalchemy import Connection, Engine

from metering.db.engine import connected

# One that was unused for longer goes back to its pool, which asks whether it still works before it is used again.
_IDLE_SECONDS = 1.0


class KeptConnection:
    """Transactions on one connection, without asking before each whether it works. For one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._used_at = 0.0

    @contextmanager
    def within_transaction(self) -> Iterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseUnavailableError: PostgreSQL cannot be reached.
        """
        if monotonic() - self._used_at > _IDLE_SECONDS:
            self.close()
        if self._connection is None:
            self._connection = connected(self._engine)
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            self.close()
            raise
        self._used_at = monotonic()

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
