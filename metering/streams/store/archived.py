"""What the database keeps of archived streams: where their facts are, and their tags."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from metering.core.errors import MeteringError
from metering.db.rows import json_keys


class StreamArchivedError(MeteringError):
    """The facts of the stream are in an archive; its charge and adjustments are in the database."""

    def __init__(self, *, customer_id: str, stream_id: str, archive_id: str) -> None:
        super().__init__(
            f"the facts of stream {stream_id!r} of customer {customer_id!r} are in the archive {archive_id}; its"
            f" charge stays. To bring them back: `metering archive restore FOLDER --stream"
            f" {customer_id}/{stream_id}`"
        )
        self.archive_id = archive_id


_HAS_ARCHIVES = text("SELECT EXISTS (SELECT FROM archives)")
_FIND = text(
    """
    SELECT a.customer_id, a.stream_id, a.archive_id
    FROM json_to_recordset(CAST(:keys AS json)) AS wanted (customer_id text, stream_id text)
    JOIN archived_streams a ON a.customer_id = wanted.customer_id AND a.stream_id = wanted.stream_id
    """
)


def has_archives(connection: Connection) -> bool:
    """Whether anything was ever archived. Most deployments have no archive, and need look for nothing."""
    found: bool = connection.execute(_HAS_ARCHIVES).scalar_one()
    return found


def find_archived(connection: Connection, streams: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The archive of each of these streams, given as (customer_id, stream_id); others are left out."""
    if not streams or not has_archives(connection):
        return {}
    rows = connection.execute(_FIND, {"keys": json_keys(streams)})
    return {(row.customer_id, row.stream_id): row.archive_id for row in rows}


def check_not_archived(connection: Connection, *, customer_id: str, stream_id: str) -> None:
    """Check that the facts of a stream are in the database, if it is known at all.

    Raises:
        StreamArchivedError: they are in an archive.
    """
    key = (customer_id, stream_id)
    archive_id = find_archived(connection, [key]).get(key)
    if archive_id is not None:
        raise StreamArchivedError(customer_id=customer_id, stream_id=stream_id, archive_id=archive_id)
