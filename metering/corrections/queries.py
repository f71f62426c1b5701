"""The backlog: streams that need a person, the longest waiting first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import State
from metering.streams.store.streams import STREAM_COLUMNS, StoredStream, stored_stream

_FIXES = {
    State.ORPHANED: "send the stream-start, and it finalizes by itself; or write it off",
    State.UNPRICED: "set the rate (`metering rates set`), and it finalizes by itself; or write it off",
    State.CONFLICTING: "send a stream-end whose usage_source ranks higher; or bill it as it is, or write it off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogItem:
    """A stream that waits for a person, or for a fact that is still to come, `since` its first event arrived."""

    stream: StoredStream
    since: datetime

    @property
    def fix(self) -> str:
        """What a person can do about it."""
        return _FIXES[self.stream.state]

    @property
    def actions(self) -> Sequence[ResolutionAction]:
        """The decisions that would settle it."""
        if self.stream.state is State.CONFLICTING and self.stream.facts.start is not None:
            return (ResolutionAction.BILL_AS_IS, ResolutionAction.WRITE_OFF)
        return (ResolutionAction.WRITE_OFF,)


_BACKLOG = text(
    f"""
    SELECT {STREAM_COLUMNS}, s.first_received_at FROM streams s
    WHERE s.state IN ('orphaned', 'unpriced', 'conflicting')
      AND (CAST(:state AS text) IS NULL OR s.state = :state)
      AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
      AND (CAST(:since AS timestamptz) IS NULL
           OR (s.first_received_at, s.customer_id, s.stream_id) > (:since, :after_customer, :after_stream))
    ORDER BY s.first_received_at, s.customer_id, s.stream_id LIMIT :limit
    """
)


_COUNT = text(
    """
    SELECT count(*) FROM streams s WHERE s.state IN ('orphaned', 'unpriced', 'conflicting')
      AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
    """
)


def count_backlog(connection: Connection, *, customer_id: str | None) -> int:
    """How many streams wait, of one customer or of all."""
    count: int = connection.execute(_COUNT, {"customer_id": customer_id}).scalar_one()
    return count


def list_backlog(
    connection: Connection,
    *,
    state: State | None,
    customer_id: str | None,
    after: tuple[datetime, str, str] | None,
    limit: int,
) -> Sequence[BacklogItem]:
    """Streams behind the position `after`, by (since, customer_id, stream_id)."""
    since, after_customer, after_stream = after or (None, None, None)
    rows = connection.execute(
        _BACKLOG,
        {
            "state": state.value if state else None,
            "customer_id": customer_id,
            "since": since,
            "after_customer": after_customer,
            "after_stream": after_stream,
            "limit": limit,
        },
    )
    return [BacklogItem(stream=stored_stream(row), since=row.first_received_at) for row in rows]
