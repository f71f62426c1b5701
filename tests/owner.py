"""Connections of a database's owner, who may change facts. Each is used again while the database lasts.

A new connection reads the catalogue before its first statement, which takes longer than most statements do.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

_idle: dict[str, list[psycopg.Connection]] = {}


@contextmanager
def owner(url: str) -> Iterator[psycopg.Connection]:
    """A transaction, on a connection that no other thread has meanwhile."""
    idle = _idle.setdefault(url, [])
    try:
        connection = idle.pop()
    except IndexError:
        connection = psycopg.connect(url)
    try:
        with connection.transaction():
            yield connection
    except BaseException:
        connection.close()
        raise
    idle.append(connection)


def leave(url: str) -> None:
    """Close the connections to a database, which can then be copied or dropped."""
    for connection in _idle.pop(url, []):
        connection.close()
