"""SQL that moves archived rows out of the database and back. It runs as the owner: the service may not."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from metering.archive.columns import JOURNAL_COLUMNS, STREAM_COLUMNS
from metering.archive.manifest import Manifest
from metering.db.rows import copy_rows, json_keys, json_rows
from metering.events.wire.bodies import pack_body

_BEGIN = text(
    """
    INSERT INTO archives (archive_id, manifest_sha256, received_from, received_before, request_count, event_count,
                          stream_count, started_at)
    VALUES (:archive_id, :sha256, :received_from, :received_before, :request_count, :event_count, 0, :now)
    ON CONFLICT (archive_id) DO NOTHING
    """
)
_SHA256 = text("SELECT manifest_sha256 FROM archives WHERE archive_id = :archive_id FOR UPDATE")
_REMOVE = text(
    """
    DELETE FROM streams s
    USING json_to_recordset(CAST(:rows AS json))
          AS r (customer_id text, stream_id text, last_received_at timestamptz, revision integer)
    WHERE s.customer_id = r.customer_id AND s.stream_id = r.stream_id
      AND s.state = 'finalized' AND s.due_at IS NULL
      AND s.last_received_at = r.last_received_at AND s.revision = r.revision
    RETURNING s.customer_id, s.stream_id, CAST(s.start_data -> 'tags' AS text) AS tags
    """
)
_KEEP = "COPY archived_streams (customer_id, stream_id, archive_id, tags) FROM STDIN"
_COUNT = text("UPDATE archives SET stream_count = stream_count + :streams WHERE archive_id = :archive_id")
_COMPLETE = text("UPDATE archives SET completed_at = :now WHERE archive_id = :archive_id")


def begin_removal(connection: Connection, manifest: Manifest, *, sha256: str, now: datetime) -> str:
    """Record that the rows of an archive are about to be removed; return the SHA-256 of the one on record."""
    values = {name: getattr(manifest, name) for name in ("archive_id", "received_from", "received_before")}
    counts = {"request_count": manifest.request_count, "event_count": manifest.event_count}
    connection.execute(_BEGIN, {**values, **counts, "sha256": sha256, "now": now})
    on_record: str = connection.execute(_SHA256, {"archive_id": manifest.archive_id}).scalar_one()
    return on_record


def remove_streams(connection: Connection, archive_id: str, streams: Iterable[tuple[Any, ...]]) -> int:
    """Remove those streams that are as they were archived; return how many.

    They are given as (customer_id, stream_id, last_received_at, revision). One that has changed stays.
    """
    names = ("customer_id", "stream_id", "last_received_at", "revision")
    rows = json_rows(dict(zip(names, each, strict=True)) for each in streams)
    removed = connection.execute(_REMOVE, {"rows": rows}).all()
    copy_rows(connection, _KEEP, ((row.customer_id, row.stream_id, archive_id, row.tags) for row in removed))
    connection.execute(_COUNT, {"archive_id": archive_id, "streams": len(removed)})
    return len(removed)


def _partition(archive_id: str) -> str:
    """The name of a month's partition; the month was checked when the manifest was read."""
    return f"journal_{archive_id.replace('-', '_')}"


def complete_removal(connection: Connection, archive_id: str, *, now: datetime) -> None:
    """Drop the month's partition of the journal, and record that the archive is complete."""
    connection.execute(text(f"DROP TABLE IF EXISTS {_partition(archive_id)}"))
    connection.execute(_COMPLETE, {"archive_id": archive_id, "now": now})


_STREAM_COLUMNS = ", ".join(column.name for column in STREAM_COLUMNS)
_FORGET = text(
    """
    DELETE FROM archived_streams a
    USING json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    WHERE a.customer_id = wanted.customer_id AND a.stream_id = wanted.stream_id
    """
)
_TAKE_OUT = text(
    """
    DELETE FROM streams s
    USING json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    WHERE s.customer_id = wanted.customer_id AND s.stream_id = wanted.stream_id
    """
)


def put_back(connection: Connection, archive_id: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store archived streams again, in place of what arrived for them since."""
    keys = {"keys": json_keys((row[0], row[1]) for row in rows)}
    connection.execute(_TAKE_OUT, keys)
    copy_rows(connection, f"COPY streams ({_STREAM_COLUMNS}) FROM STDIN", rows)
    connection.execute(_FORGET, keys)
    connection.execute(_COUNT, {"archive_id": archive_id, "streams": -len(rows)})


_BODY = len(JOURNAL_COLUMNS) - 1
# The archive keeps the ids of requests, which are generated otherwise.
_RESTORE_REQUESTS = f"COPY journal ({', '.join(column.name for column in JOURNAL_COLUMNS)}) FROM STDIN"
_FORGET_ARCHIVE = text("DELETE FROM archives WHERE archive_id = :archive_id")


def put_back_requests(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Store archived requests again, in the partition of their month, which exists and is empty."""
    copy_rows(connection, _RESTORE_REQUESTS, (_packed(row) for row in rows))


def _packed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:_BODY], pack_body(row[_BODY]))


def forget_archive(connection: Connection, archive_id: str) -> None:
    """Record that all rows of an archive are in the database again."""
    connection.execute(_FORGET_ARCHIVE, {"archive_id": archive_id})
