"""What went wrong with PostgreSQL, in a few words: without the driver's classes, its SQL and its hints."""

import re

import psycopg
from sqlalchemy.exc import DBAPIError

_CONNECTING = re.compile(r'connection to server (?:at|on socket) "([^"]*)"(?:, port (\d+))? failed: (.*)')
_CANCELLED = "57014"
_IDLE_TOO_LONG = "25P03"
# libpq's words for a connection that ended while it was being made, behind psycopg's for where it noticed.
_CLOSED = "server closed the connection unexpectedly"
# A node of Citus that does not answer, and one that was lost within a statement, which is an internal error.
_NODE = re.compile(r"connection to the remote node (?:\S+@)?(\S+) failed(?: with the following error: (.*))?")
_WITHIN = re.compile(r"server closed the connection|could not (?:receive|send) data|no connection to the server")
_ON_NODE = re.compile(r"while executing command on (\S+)")
# Classes of SQLSTATE with which PostgreSQL ends a connection.
_GONE = ("08", "57")


def why_unreachable(error: BaseException | None) -> str:
    """Why a connection could not be made, and to where: `Connection refused (127.0.0.1:5432)`."""
    line = _first_line(error)
    found = _CONNECTING.search(line)
    if found is None:
        return "it closed the connection" if line.endswith(_CLOSED) else line
    place, port, reason = found.groups()
    reason = "it closed the connection" if reason == _CLOSED else reason.removeprefix("FATAL:").strip()
    return f"{reason} ({place}{f':{port}' if port else ''})"


def lost_node(error: BaseException | None) -> str | None:
    """The node of Citus that does not answer, and why, if an error of psycopg is about that; else None."""
    if not isinstance(error, psycopg.Error):
        return None
    line = _first_line(error)
    if found := _NODE.search(line):
        return f"{found[1]}: {found[2]}" if found[2] else found[1]
    node = _ON_NODE.search(error.diag.context or "")
    return f"{node[1]}: it closed the connection" if node is not None and _WITHIN.search(line) else None


def why_failed(error: Exception) -> str:
    """What PostgreSQL did in the middle of the work, given an error of SQLAlchemy or psycopg."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if (node := lost_node(cause)) is not None:
        return f"a node of the Citus cluster does not answer ({node})"
    state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if state == _CANCELLED:
        return "PostgreSQL ended a statement, which took too long or was cancelled"
    if state is None or state.startswith(_GONE):
        return "the connection to PostgreSQL was lost"
    return f"PostgreSQL gave up a statement: {_first_line(cause)}"


def took_too_long(error: Exception) -> bool:
    """Whether PostgreSQL itself ended a statement, or an idle transaction, at the end of its time."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, psycopg.Error) and cause.sqlstate in (_CANCELLED, _IDLE_TOO_LONG)


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else "no reason was given"
