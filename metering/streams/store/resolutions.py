"""SQL that adds and reads resolutions. The newest resolution of a stream counts; resolutions are never changed."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, text

from metering.db.rows import json_keys
from metering.streams.resolutions import Resolution, ResolutionAction


def resolution_of_row(row: Any) -> Resolution:
    """A row of `resolutions` as a record."""
    return Resolution(
        customer_id=row.customer_id,
        stream_id=row.stream_id,
        resolved_at=row.resolved_at,
        action=ResolutionAction(row.action),
        reason=row.reason,
        resolved_by=row.resolved_by,
        start_fingerprint=row.start_fingerprint,
        end_fingerprint=row.end_fingerprint,
    )


_ADD = text(
    """
    INSERT INTO resolutions (customer_id, stream_id, resolved_at, action, reason, resolved_by, start_fingerprint,
                             end_fingerprint)
    VALUES (:customer_id, :stream_id, :resolved_at, :action, :reason, :resolved_by, :start_fingerprint,
            :end_fingerprint)
    """
)


def add_resolution(connection: Connection, resolution: Resolution) -> None:
    """Record a decision."""
    connection.execute(_ADD, {**asdict(resolution), "action": resolution.action.value})


_NEWEST = text(
    """
    SELECT DISTINCT ON (r.customer_id, r.stream_id) r.*
    FROM json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    JOIN resolutions r ON r.customer_id = wanted.customer_id AND r.stream_id = wanted.stream_id
    ORDER BY r.customer_id, r.stream_id, r.resolved_at DESC
    """
)


def newest_resolutions(
    connection: Connection, streams: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Resolution]:
    """The newest decision about each of these (customer_id, stream_id); most have none."""
    if not streams:
        return {}
    rows = connection.execute(_NEWEST, {"keys": json_keys(streams)})
    return {(row.customer_id, row.stream_id): resolution_of_row(row) for row in rows}
