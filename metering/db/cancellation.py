"""Cancel the statement of a request whose client has left."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Error
from sqlalchemy import Connection

from metering.db.engine import cancel_statement

log = logging.getLogger(__name__)


class Cancellation:
    """The connection that a request uses now, if it uses one. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    @contextmanager
    def covers(self, connection: Connection) -> Iterator[None]:
        """Within the block, `cancel` ends what this connection is running."""
        with self._lock:
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None

    def cancel(self) -> None:
        """End the statement that is running, if there is one."""
        # The lock keeps the connection from being given back meanwhile, and used by another request.
        with self._lock:
            if self._connection is None:
                return
            try:
                cancel_statement(self._connection)
            except (Error, OSError) as error:
                log.warning("a query could not be cancelled", extra={"error": str(error).strip()})
