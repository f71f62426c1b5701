"""SQL that reads the audit log."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAction:
    """A row of the audit log: who did what, through which door and from where, with the values before and after.

    `row_hash` is of the row and of `previous_hash`, the hash of the row before.
    """

    audit_id: int
    at: datetime
    actor: str
    door: str
    address: str | None
    request_id: str | None
    kind: str
    action: str
    subject: str
    before: Any
    after: Any
    row_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLogFilter:
    """A filter for rows; None does not filter. The range of `at` is half-open."""

    kind: str | None = None
    subject: str | None = None
    actor: str | None = None
    start: datetime | None = None
    end: datetime | None = None


_ROWS = """
SELECT audit_id, at, actor, door, address, request_id, kind, action, subject, before, after, row_hash
FROM audit_log
WHERE (CAST(:kind AS text) IS NULL OR kind = :kind) AND (CAST(:subject AS text) IS NULL OR subject = :subject)
  AND (CAST(:actor AS text) IS NULL OR actor = :actor)
  AND (CAST(:start AS timestamptz) IS NULL OR at >= :start) AND (CAST(:end AS timestamptz) IS NULL OR at < :end)
"""
_NEWEST = text(
    f"{_ROWS} AND (CAST(:before AS bigint) IS NULL OR audit_id < :before) ORDER BY audit_id DESC LIMIT :limit"
)
_OLDEST = text(
    f"{_ROWS} AND (CAST(:before AS bigint) IS NULL OR audit_id > :before) ORDER BY audit_id LIMIT :limit"
)
_ALL = text(f"{_ROWS} ORDER BY audit_id")


def list_audit_log(
    connection: Connection, *, where: AuditLogFilter, before: int | None, limit: int, oldest_first: bool = False
) -> list[LoggedAction]:
    """Rows, the newest first or the oldest; `before` is the number of the last row of the page before."""
    statement = _OLDEST if oldest_first else _NEWEST
    rows = connection.execute(statement, {**_parameters(where), "before": before, "limit": limit})
    return [LoggedAction(**row._mapping) for row in rows]


def iterate_audit_log(connection: Connection, *, where: AuditLogFilter) -> Iterator[LoggedAction]:
    """All rows, the oldest first, read in chunks from the server."""
    rows = connection.execute(_ALL, _parameters(where), execution_options={"yield_per": 1_000})
    for row in rows:
        yield LoggedAction(**row._mapping)


def _parameters(where: AuditLogFilter) -> dict[str, object]:
    return {
        "kind": where.kind,
        "subject": where.subject,
        "actor": where.actor,
        "start": where.start,
        "end": where.end,
    }
