"""Resolutions: added, never changed; the newest of a stream counts."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert

from metering.db.rows import json_keys
from metering.db.tables import resolutions
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


_NEWEST = """
SELECT DISTINCT ON (r.customer_id, r.stream_id) r.*
FROM json_to_recordset(%s::json) AS wanted (customer_id text, stream_id text)
JOIN resolutions r ON r.customer_id = wanted.customer_id AND r.stream_id = wanted.stream_id
ORDER BY r.customer_id, r.stream_id, r.resolved_at DESC
"""


def add_resolution(connection: Connection, resolution: Resolution) -> None:
    """Record a decision."""
    connection.execute(
        insert(resolutions).values(
            customer_id=resolution.customer_id,
            stream_id=resolution.stream_id,
            resolved_at=resolution.resolved_at,
            action=resolution.action.value,
            reason=resolution.reason,
            resolved_by=resolution.resolved_by,
            start_fingerprint=resolution.start_fingerprint,
            end_fingerprint=resolution.end_fingerprint,
        )
    )


def newest_resolutions(
    connection: Connection, streams: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Resolution]:
    """The newest decision about each of these (customer_id, stream_id); most have none."""
    if not streams:
        return {}
    rows = connection.exec_driver_sql(_NEWEST, (json_keys(streams),))
    return {(row.customer_id, row.stream_id): resolution_of_row(row) for row in rows}
