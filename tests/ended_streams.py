"""Streams that are due for the finalizer, stored without an API."""

from datetime import UTC, datetime, timedelta

import psycopg

from metering.events.events import Outcome, StreamEnd, StreamStart, UsageSource
from metering.events.usage import Usage
from metering.streams.store.streams import UPSERT, upsert_parameters
from metering.streams.stream import fold
from tests.database import Database


def end_a_stream(database: Database, stream_id: str) -> None:
    """Store the start and the end of a stream of acme's, as ingest does."""
    with psycopg.connect(database.url) as connection:
        store_ended_stream(connection, stream_id)


def store_ended_stream(connection: psycopg.Connection, stream_id: str) -> None:
    """The same, in a transaction of the caller's."""
    now = datetime.now(UTC)
    key = {"customer_id": "acme", "stream_id": stream_id, "time": now}
    start = StreamStart(**key, provider="anthropic", model="claude-opus-4.7")  # type: ignore[arg-type]
    usage = Usage(input_tokens=1, output_tokens=1)
    end = StreamEnd(
        **key,  # type: ignore[arg-type]
        outcome=Outcome.COMPLETED,
        usage=usage,
        usage_source=UsageSource.PROVIDER,
    )
    parameters = upsert_parameters(
        fold([start, end]).values(), first_received_at=now, received_at=now, abandon_after=timedelta(minutes=15)
    )
    connection.execute("INSERT INTO customers VALUES ('acme', NULL, NULL, 'UTC', now()) ON CONFLICT DO NOTHING")
    connection.execute(UPSERT, parameters)
