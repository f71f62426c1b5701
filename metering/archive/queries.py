"""Queries about what can be archived, what was, and the rows that go into an archive."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from metering.archive.columns import JOURNAL_COLUMNS, STREAM_COLUMNS, Column, Kind
from metering.events.wire.bodies import unpack_body

_CHUNK = 2_000
# Bodies can have some megabytes.
_REQUESTS_AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveView:
    """An archive whose rows were removed from the database; `completed_at` is None while that is under way."""

    archive_id: str
    manifest_sha256: str
    received_from: datetime
    received_before: datetime
    request_count: int
    event_count: int
    stream_count: int
    started_at: datetime
    completed_at: datetime | None


_ARCHIVES = text("SELECT * FROM archives ORDER BY archive_id")
_PARTITIONS = text(
    """
    SELECT right(c.relname, 7) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'journal'::regclass ORDER BY 1
    """
)
_NOT_CLOSED = text(
    """
    SELECT count(*) AS customers, (array_agg(customer_id ORDER BY customer_id))[1:3] AS examples
    FROM customers WHERE created_at < :before AND closed_through < :period
    """
)
_COUNT = text(
    """
    SELECT count(*) AS requests, coalesce(sum(event_count), 0) AS events FROM journal
    WHERE received_at >= :from_ AND received_at < :before
    """
)


def list_archives(connection: Connection) -> Sequence[ArchiveView]:
    """All archives, the oldest month first."""
    return [ArchiveView(**row._mapping) for row in connection.execute(_ARCHIVES)]


def journal_months(connection: Connection) -> Sequence[str]:
    """The months of the journal's partitions, such as 2026-10, oldest first."""
    return [name.replace("_", "-") for name in connection.execute(_PARTITIONS).scalars()]


def not_closed(connection: Connection, *, period: str, before: datetime) -> tuple[int, Sequence[str]]:
    """How many customers from before this time have not closed the month, and up to three of them."""
    row = connection.execute(_NOT_CLOSED, {"period": period, "before": before}).one()
    return row.customers, row.examples or []


def count_requests(connection: Connection, *, from_: datetime, before: datetime) -> tuple[int, int]:
    """The requests that arrived in the half-open range, and their events."""
    row = connection.execute(_COUNT, {"from_": from_, "before": before}).one()
    return row.requests, int(row.events)


def _select(columns: Sequence[Column], alias: str) -> str:
    texts = (Kind.JSON, Kind.TEXT)
    return ", ".join(
        f"{alias}.{each.name}::text AS {each.name}" if each.kind in texts else f"{alias}.{each.name}"
        for each in columns
    )


# A stream stays until its charge is in a closed month of its customer. What a retry still has to be linked with
# stays as well.
_STREAMS = text(
    f"""
    SELECT {_select(STREAM_COLUMNS, "s")} FROM streams s
    JOIN charges c ON c.customer_id = s.customer_id AND c.stream_id = s.stream_id
    JOIN customers k ON k.customer_id = s.customer_id
    WHERE s.state = 'finalized' AND s.due_at IS NULL AND s.last_received_at < :before
      AND c.period <= k.closed_through
      AND NOT EXISTS (SELECT FROM interrupted_streams i
                      WHERE i.customer_id = s.customer_id AND i.stream_id = s.stream_id AND NOT i.linked)
    ORDER BY s.customer_id COLLATE "C", s.stream_id COLLATE "C"
    """
).execution_options(yield_per=_CHUNK)
_JOURNAL = text(
    f"""
    SELECT {_select(JOURNAL_COLUMNS, "j")} FROM journal j
    WHERE j.received_at >= :from_ AND j.received_at < :before ORDER BY j.received_at, j.journal_id
    """
).execution_options(yield_per=_REQUESTS_AT_ONCE)


def iterate_streams(connection: Connection, *, before: datetime) -> Iterator[list[tuple[Any, ...]]]:
    """The streams that can be archived with what arrived before this time, in batches, sorted by key."""
    for rows in connection.execute(_STREAMS, {"before": before}).partitions(_CHUNK):
        yield [tuple(row) for row in rows]


def iterate_requests(
    connection: Connection, *, from_: datetime, before: datetime
) -> Iterator[list[tuple[Any, ...]]]:
    """The journal's requests in order of arrival, in batches, with inflated bodies.

    Raises:
        zstandard.ZstdError: a stored body is corrupt.
    """
    for rows in connection.execute(_JOURNAL, {"from_": from_, "before": before}).partitions(_REQUESTS_AT_ONCE):
        yield [(*row[:-1], unpack_body(bytes(row[-1]))) for row in rows]
