"""Finalizing: a customer with very many due streams does not hold up another's few."""

from datetime import UTC, datetime, timedelta

import psycopg

from metering.events.events import Outcome, StreamEnd, StreamStart, UsageSource
from metering.events.usage import Usage
from metering.streams.store.streams import UPSERT, upsert_parameters
from metering.streams.stream import fold
from tests.database import Database
from workers.finalizing import Finalizing

BATCH, NOISY = 5, 100


def end_a_stream(connection: psycopg.Connection, customer_id: str, number: int) -> None:
    """Each stream is due a millisecond after the one before it."""
    at = datetime.now(UTC) - timedelta(minutes=1) + timedelta(milliseconds=number)
    key = {"customer_id": customer_id, "stream_id": f"s{number}", "time": at}
    start = StreamStart(**key, provider="anthropic", model="claude-opus-4.7")  # type: ignore[arg-type]
    end = StreamEnd(
        **key,  # type: ignore[arg-type]
        outcome=Outcome.COMPLETED,
        usage=Usage(input_tokens=1, output_tokens=1),
        usage_source=UsageSource.PROVIDER,
    )
    facts = fold([start, end]).values()
    parameters = upsert_parameters(
        facts, first_received_at=at, received_at=at, abandon_after=timedelta(minutes=15)
    )
    connection.execute(UPSERT, parameters)


def test_the_few_streams_of_a_quiet_customer_go_before_the_many_of_a_noisy_one(rated_database: Database) -> None:
    with psycopg.connect(rated_database.url) as connection:
        connection.execute(
            "INSERT INTO customers SELECT name, NULL, NULL, 'UTC', now() FROM unnest(%s::text[]) AS name",
            (["noisy", "quiet"],),
        )
        for number in range(NOISY):
            end_a_stream(connection, "noisy", number)
        # In the middle, where neither the oldest nor the newest due streams are.
        end_a_stream(connection, "quiet", NOISY // 2)
    with rated_database.service(finalize_batch=BATCH) as service:
        finalizing = Finalizing(lambda: service, on_batch=lambda *_: None)
        while books(rated_database) < NOISY + 1:
            finalizing.drain()
    with psycopg.connect(rated_database.url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM charges WHERE customer_id = 'noisy' AND booked_at <"
            " (SELECT booked_at FROM charges WHERE customer_id = 'quiet')"
        ).fetchone()
    assert row is not None
    assert row[0] <= 6 * BATCH


def books(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT count(*) FROM charges").fetchone()
    assert row is not None
    return int(row[0])
