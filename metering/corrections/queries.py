"""The backlog: streams that need attention or a fact that is missing, the longest waiting first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, TextClause, text

from metering.events.events import UsageSource
from metering.streams.resolutions import ResolutionAction
from metering.streams.settlement import SETTLED_BY, State, waits_for_archive
from metering.streams.store.streams import IN_BACKLOG, STREAM_COLUMNS, StoredStream, stored_stream
from metering.streams.stream import StreamFacts

_MISSING_FACTS = {
    State.ORPHANED: "send the stream-start, then the stream finalizes; or resolve it with write_off",
    State.UNPRICED: "set the rate from before its start (`metering rates set … --effective-from …`), then the "
    "stream finalizes; or resolve it with write_off",
    State.UNMEASURED: "send a stream-end with its usage, then the stream finalizes; or resolve it with write_off",
    State.MISDATED: "send the event again with its right time, then the stream finalizes; or resolve it with "
    "bill_as_received (priced and filed by the time of receipt) or write_off",
    State.FAILED: "report the error in the worker's log; the stream finalizes by itself once a release mends it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogItem:
    """A stream that waits for a decision or for a missing fact. Its first event arrived at `since`."""

    stream: StoredStream
    since: datetime

    @property
    def fix(self) -> str:
        """Advice that fits the state and the reason."""
        if waits_for_archive(self.stream.state, self.stream.state_reason):
            stream = f"{self.stream.facts.customer_id}/{self.stream.facts.stream_id}"
            return (
                f"`metering archive restore FOLDER --stream {stream}`, then the stream is billed again by itself"
            )
        if self.stream.state is State.CONFLICTING:
            return _conflict_fix(self.stream.facts)
        return _MISSING_FACTS[self.stream.state]

    @property
    def actions(self) -> Sequence[ResolutionAction]:
        """The resolutions that `resolve_stream` accepts for this stream."""
        if self.stream.state is State.FAILED:
            return ()
        fitting = [action for action, state in SETTLED_BY.items() if state is self.stream.state]
        return (*fitting, ResolutionAction.WRITE_OFF) if self.stream.facts.start else (ResolutionAction.WRITE_OFF,)


def _conflict_fix(facts: StreamFacts) -> str:
    start, end = facts.start, facts.end
    if start is None:
        resolve = "resolve it with write_off (bill_as_is needs the stream-start)"
    else:
        resolve = "resolve it with bill_as_is or write_off"
    if start is not None and start.conflicting:
        return f"{resolve}; no further event can settle two different stream-starts"
    if end is not None and end.event.usage_source is not UsageSource.PROVIDER:
        return f"send a stream-end with a usage_source that ranks higher; or {resolve}"
    return f"{resolve}; no usage_source ranks higher than that of these stream-ends"


def _backlog(after: str, order: str) -> TextClause:
    return text(
        f"""
        SELECT {STREAM_COLUMNS}, s.first_received_at FROM streams s
        WHERE {IN_BACKLOG}
          AND (CAST(:state AS text) IS NULL OR s.state = :state)
          AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
          AND (CAST(:since AS timestamptz) IS NULL
               OR (s.first_received_at, s.customer_id, s.stream_id) {after}
                  (:since, :after_customer, :after_stream))
        ORDER BY s.first_received_at {order}, s.customer_id {order}, s.stream_id {order} LIMIT :limit
        """
    )


_LONGEST_FIRST, _NEWEST_FIRST = _backlog(">", "ASC"), _backlog("<", "DESC")


_COUNT = text(
    f"""
    SELECT count(*) FROM streams s WHERE {IN_BACKLOG}
      AND (CAST(:state AS text) IS NULL OR s.state = :state)
      AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
    """
)


def count_backlog(connection: Connection, *, customer_id: str | None, state: State | None = None) -> int:
    """The number of streams in the backlog, of one customer or of all (None), in one state or in all (None)."""
    parameters = {"customer_id": customer_id, "state": state.value if state else None}
    count: int = connection.execute(_COUNT, parameters).scalar_one()
    return count


def list_backlog(
    connection: Connection,
    *,
    state: State | None,
    customer_id: str | None,
    after: tuple[datetime, str, str] | None,
    limit: int,
    newest_first: bool = False,
) -> Sequence[BacklogItem]:
    """Up to `limit` streams of the backlog after the position `after`, a (since, customer_id, stream_id).

    None does not filter. The longest waiting are first, or the newest.
    """
    since, after_customer, after_stream = after or (None, None, None)
    rows = connection.execute(
        _NEWEST_FIRST if newest_first else _LONGEST_FIRST,
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


_ONE = text(
    f"""
    SELECT {STREAM_COLUMNS}, s.first_received_at FROM streams s
    WHERE s.customer_id = :customer_id AND s.stream_id = :stream_id AND {IN_BACKLOG}
    """
)


def get_backlog_item(connection: Connection, *, customer_id: str, stream_id: str) -> BacklogItem | None:
    """A stream of the backlog; None if it is not in it."""
    row = connection.execute(_ONE, {"customer_id": customer_id, "stream_id": stream_id}).first()
    return BacklogItem(stream=stored_stream(row), since=row.first_received_at) if row else None
