"""How PostgreSQL is told that a query reads few rows, where it cannot know: those of a list that it is given."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

_SCANS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
_OFF, _ON = (
    text("SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name in _SCANS))
    for value in ("off", "on")
)


@contextmanager
def rows_by_key(connection: Connection) -> Iterator[None]:
    """Within the block, rows are looked up by their keys instead of reading whole tables."""
    connection.execute(_OFF)
    yield
    connection.execute(_ON)
