"""Several processes write the same streams at once: nobody deadlocks, nothing is lost, the sum is the join."""

import asyncio
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from metering.db.engine import service_conninfo
from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageEvent
from metering.streams.ingest.submission import Submission
from metering.streams.ingest.writer import IngestWriter
from metering.streams.store.streams import STREAM_COLUMNS, UPSERT, stored_stream, upsert_parameters
from metering.streams.stream import fold
from tests.builders.journal import journal_entry
from tests.database import Database, is_cluster
from tests.waiting import eventually

pytestmark = pytest.mark.long

T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)
PROCESSES, ROUNDS, STREAMS = 4, 40, 60


def events_of(process: int) -> list[list[UsageEvent]]:
    """What one process posts: of the same streams as all others, in an order of its own."""
    rng = random.Random(process)
    requests = []
    for turn in range(ROUNDS):
        places = list(range(STREAMS))
        rng.shuffle(places)
        request: list[UsageEvent] = []
        for place in places:
            customer_id, stream_id = f"c{place % 7}", f"s{place:03}"
            time = T0 + timedelta(milliseconds=1000 * turn + process)
            if rng.random() < 0.1:
                request.append(
                    StreamStart(customer_id=customer_id, stream_id=stream_id, time=time, provider="p", model="m")
                )
            if rng.random() < 0.05:
                request.append(
                    StreamEnd(customer_id=customer_id, stream_id=stream_id, time=time, outcome=Outcome.COMPLETED)
                )
            request.append(
                TokenDelivered(
                    customer_id=customer_id,
                    stream_id=stream_id,
                    time=time,
                    seq=turn * PROCESSES + process,
                    output_tokens=turn * 10 + process,
                )
            )
        requests.append(request)
    return requests


async def post_all(url: str, process: int) -> int:
    writer = IngestWriter(
        connect=lambda: psycopg.AsyncConnection.connect(service_conninfo(url), autocommit=True),
        max_queued_events=1_000_000,
        commit_timeout=timedelta(seconds=60),
        abandon_after=timedelta(minutes=15),
        on_ended=lambda: None,
    )
    writer.start()
    for request in events_of(process):
        entry = journal_entry(received_at=datetime.now(UTC), key_id=f"k{process}", event_count=len(request))
        await writer.submit(Submission(entry, fold(request)))
    await writer.stop()
    return writer.retries


def run_process(url: str, process: int) -> int:
    """Returns how many transactions had to be tried again."""
    return asyncio.run(post_all(url, process))


def test_processes_that_hammer_the_same_streams_never_deadlock_and_store_the_join(database: Database) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool:
        retries = list(pool.map(run_process, [database.url] * PROCESSES, range(PROCESSES)))
    # Each node of Citus locks in order, and a deadlock between nodes is tried again: nobody was refused.
    assert retries == [0] * PROCESSES or is_cluster()
    everything = [event for process in range(PROCESSES) for request in events_of(process) for event in request]
    with psycopg.connect(database.url, row_factory=namedtuple_row) as connection:
        rows = connection.execute(f"SELECT {STREAM_COLUMNS} FROM streams s".encode()).fetchall()
        (counts,) = connection.execute(
            "SELECT sum(event_count) AS events, count(DISTINCT ingest_key_id) AS processes FROM journal"
        ).fetchall()
        (server,) = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchall()
    stored = [stored_stream(row).facts for row in rows]
    assert {(facts.customer_id, facts.stream_id): facts for facts in stored} == fold(everything)
    assert (counts.events, counts.processes) == (len(everything), PROCESSES)
    assert server.deadlocks == 0 or is_cluster()


def delivered(number: int, *, seq: int) -> TokenDelivered:
    return TokenDelivered(customer_id="c", stream_id=f"s{number:03}", time=T0, seq=seq, output_tokens=seq)


def write(connection: psycopg.Connection, numbers: Sequence[int], *, seq: int) -> None:
    facts = fold([delivered(number, seq=seq) for number in numbers]).values()
    times = {"first_received_at": T0, "received_at": T0, "abandon_after": timedelta(minutes=15)}
    connection.execute(UPSERT, upsert_parameters(facts, **times))


@pytest.mark.skipif(is_cluster(), reason="a test of one node: Citus locks rows of all by no SELECT")
def test_a_write_locks_streams_in_the_order_of_their_keys_whatever_the_order_of_the_events(
    database: Database,
) -> None:
    numbers = list(range(STREAMS))
    with psycopg.connect(database.url) as connection:
        connection.execute("INSERT INTO customers (customer_id, created_at) VALUES ('c', now())")
        write(connection, numbers, seq=1)
    middle = STREAMS // 2
    random.Random(1).shuffle(numbers)
    with (
        psycopg.connect(database.url) as holder,
        psycopg.connect(database.url) as writer,
        psycopg.connect(database.url, autocommit=True) as looker,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.execute("SELECT FROM streams WHERE stream_id = %s FOR UPDATE", (f"s{middle:03}",))
        written = pool.submit(write, writer, numbers, seq=2)
        waits = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        assert eventually(lambda: looker.execute(waits, (writer.info.backend_pid,)).rowcount == 1)
        free = looker.execute("SELECT stream_id FROM streams ORDER BY stream_id FOR UPDATE SKIP LOCKED").fetchall()
        holder.rollback()
        written.result(timeout=60)
    assert [stream_id for (stream_id,) in free] == [f"s{number:03}" for number in range(middle + 1, STREAMS)]
