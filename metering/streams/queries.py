"""Read streams that can still change the amount of a month."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.streams.store.streams import ENDED_AT, IN_BACKLOG, STREAM_COLUMNS, StoredStream, stored_stream

# How many ids are shown per customer.
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Unsettled:
    """How many streams of a customer can still settle in a month, and some of their ids with their states."""

    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        streams = "stream" if self.count == 1 else "streams"
        return f"{self.count:,} {streams} may still settle: {', '.join(self.examples)}{more}"


# Unsettled streams are in one of two small partial indexes: due, or in the backlog.
_UNSETTLED = text(
    f"""
    WITH unsettled AS MATERIALIZED (
        SELECT customer_id, stream_id, state, {ENDED_AT} AS at FROM streams s
        WHERE due_at IS NOT NULL AND {ENDED_AT} < :latest
        UNION
        SELECT customer_id, stream_id, state, {ENDED_AT} FROM streams s
        WHERE {IN_BACKLOG} AND {ENDED_AT} < :latest
    )
    SELECT customer_id, count(*) AS stream_count,
           (array_agg(stream_id || ' (' || state || ')' ORDER BY at, stream_id))[1:CAST(:examples AS integer)]
           AS examples
    FROM unsettled JOIN unnest(CAST(:customer_ids AS text[]), CAST(:ends AS timestamptz[]))
         AS m (customer_id, ends_at) USING (customer_id)
    WHERE at < ends_at GROUP BY customer_id
    """
)


def unsettled_streams(connection: Connection, ends: Mapping[str, datetime]) -> Mapping[str, Unsettled]:
    """By customer, the unsettled streams that ended or went silent before the end of its month in `ends`."""
    if not ends:
        return {}
    rows = connection.execute(
        _UNSETTLED,
        {
            "latest": max(ends.values()),
            "customer_ids": list(ends),
            "ends": list(ends.values()),
            "examples": _EXAMPLES,
        },
    )
    return {row.customer_id: Unsettled(row.stream_count, tuple(row.examples)) for row in rows}


_NOT_FINAL = text(
    f"""
    SELECT {STREAM_COLUMNS} FROM streams s
    WHERE s.due_at IS NOT NULL AND s.state IN ('open', 'ended')
      AND (CAST(:customer_id AS text) IS NULL OR s.customer_id = :customer_id)
      AND s.start_data IS NOT NULL AND s.last_event_at >= :from_ AND s.last_event_at < :to
    """
)


def iterate_not_final(
    connection: Connection, *, customer_id: str | None, from_: datetime, to: datetime
) -> Iterator[StoredStream]:
    """Started streams that are not final and have their newest event in [from_, to), read in chunks."""
    rows = connection.execution_options(yield_per=2_000).execute(
        _NOT_FINAL, {"customer_id": customer_id, "from_": from_, "to": to}
    )
    return (stored_stream(row) for row in rows)
