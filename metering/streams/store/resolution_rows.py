"""A row of `resolutions` as a record."""

from typing import Any

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
