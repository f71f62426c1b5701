"""The writer: nothing is answered before its commit, one bad request does not hurt others, silence has an end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from metering.db.engine import service_conninfo
from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageEvent
from metering.events.store import JournalEntry
from metering.server.embedded.data_dir import socket_dir
from metering.streams.ingest.fair_queue import FairQueue
from metering.streams.ingest.submission import (
    KeyQueueFullError,
    NotCommittedError,
    QueueFullError,
    StreamKey,
    Submission,
)
from metering.streams.ingest.writer import IngestWriter
from metering.streams.stream import StreamFacts, fold
from tests.builders.journal import journal_entry
from tests.database import Database

# The journal has room from the month on in which the database was made.
T0 = datetime.now(UTC)
Connect = Callable[[], Awaitable[AsyncConnection]]


def start(stream_id: str, model: str = "m") -> StreamStart:
    return StreamStart(customer_id="acme", stream_id=stream_id, time=T0, provider="p", model=model)


def submission(*events: UsageEvent, received_at: datetime = T0, key_id: str = "k") -> Submission:
    return Submission(*arguments(*events, received_at=received_at, key_id=key_id))


def arguments(
    *events: UsageEvent, received_at: datetime = T0, key_id: str = "k"
) -> tuple[JournalEntry, dict[StreamKey, StreamFacts]]:
    """The arguments of a Submission, which can only be made on an event loop."""
    entry = journal_entry(received_at=received_at, key_id=key_id, event_count=len(events))
    return entry, fold(events)


def connect_to(url: str) -> Connect:
    return lambda: AsyncConnection.connect(service_conninfo(url), autocommit=True)


@asynccontextmanager
async def writing(
    connect: Connect, *, timeout: float = 5.0, max_queued: int = 1000, on_ended: Callable[[], None] = lambda: None
) -> AsyncIterator[IngestWriter]:
    writer = IngestWriter(
        connect=connect,
        max_queued_events=max_queued,
        commit_timeout=timedelta(seconds=timeout),
        abandon_after=timedelta(minutes=15),
        on_ended=on_ended,
    )
    writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


def stored(database: Database) -> list[str]:
    with psycopg.connect(database.url) as connection:
        return [row[0] for row in connection.execute("SELECT stream_id FROM streams ORDER BY 1")]


def test_what_waits_is_committed_together_and_answered_after(database: Database) -> None:
    async def run() -> None:
        async with writing(connect_to(database.url)) as writer:
            await asyncio.gather(*(writer.submit(submission(start(f"s{place:02}"))) for place in range(50)))
            assert stored(database) == [f"s{place:02}" for place in range(50)]

    asyncio.run(run())
    with psycopg.connect(database.url) as connection:
        rows = connection.execute("SELECT count(*), count(DISTINCT xmin::text) FROM journal").fetchone()
    assert rows is not None
    assert rows[0] == 50
    assert rows[1] < 10


@pytest.mark.parametrize("beside", [True, False])
def test_large_requests_rest_while_small_ones_are_committed(database: Database, beside: bool) -> None:
    large = [start(f"large{number}") for number in range(1_001)]

    async def run() -> int:
        async with writing(connect_to(database.url), max_queued=5_000) as writer:
            if beside:
                await writer.submit(submission(start("small"), key_id="other"))
            await writer.submit(submission(*large))
            return writer.rests

    assert asyncio.run(run()) == int(beside)
    assert len(stored(database)) == 1_001 + beside


def test_a_large_request_is_prepared_apart_and_committed_as_it_was_prepared(database: Database) -> None:
    large = arguments(*(start(f"s{number:04}") for number in range(1_001)))

    async def scenario() -> None:
        async with writing(connect_to(database.url), max_queued=10_000) as writer:
            assert writer.prepare(*arguments(start("small"))) is None
            statements = await asyncio.to_thread(writer.prepare, *large)
            assert statements is not None
            await writer.submit(Submission(*large, statements))

    asyncio.run(scenario())
    assert stored(database) == [f"s{number:04}" for number in range(1_001)]


def test_one_poisoned_request_does_not_fail_its_neighbours(database: Database) -> None:
    async def run() -> list[BaseException | None]:
        async with writing(connect_to(database.url)) as writer:
            requests = [submission(start("a")), submission(start("b", model="nul\0")), submission(start("c"))]
            return await asyncio.gather(*map(writer.submit, requests), return_exceptions=True)

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [type(None), NotCommittedError, type(None)]
    assert stored(database) == ["a", "c"]


def test_a_full_queue_refuses_and_recovers_by_itself(database: Database) -> None:
    async def run() -> None:
        async with writing(connect_to(database.url), max_queued=20) as writer:
            outcomes = await asyncio.gather(
                *(writer.submit(submission(start(f"s{place}"), key_id=f"k{place}")) for place in range(200)),
                return_exceptions=True,
            )
            refused = sum(isinstance(outcome, QueueFullError) for outcome in outcomes)
            assert 0 < refused < 200
            assert len(stored(database)) == 200 - refused
            await writer.submit(submission(start("later")))
            assert "later" in stored(database)
            assert writer.queued_events == 0

    asyncio.run(run())


def test_one_key_cannot_fill_the_queue(database: Database) -> None:
    async def run() -> list[BaseException | None]:
        async with writing(connect_to(database.url), max_queued=20) as writer:
            noisy = [writer.submit(submission(start(f"s{place}"), key_id="noisy")) for place in range(200)]
            quiet = writer.submit(submission(start("quiet"), key_id="quiet"))
            return await asyncio.gather(*noisy, quiet, return_exceptions=True)

    *noisy, quiet = asyncio.run(run())
    assert {type(outcome) for outcome in noisy} == {type(None), KeyQueueFullError}
    assert quiet is None


def test_keys_take_turns_in_the_queue() -> None:
    async def run() -> list[str]:
        queue = FairQueue()
        for key_id, count in (("noisy", 5), ("quiet", 1), ("other", 2)):
            for _ in range(count):
                queue.put(submission(start("s"), key_id=key_id))
        groups = []
        while queue:
            groups.append("".join(each.entry.ingest_key_id[0] for each in queue.take(3)))
        assert queue.events == queue.events_of("noisy") == 0
        return groups

    assert asyncio.run(run()) == ["nqo", "non", "nn"]


def test_nothing_is_acknowledged_while_postgresql_could_lose_it(database: Database) -> None:
    opened: list[AsyncConnection] = []

    async def connect() -> AsyncConnection:
        opened.append(await connect_to(database.url)())
        return opened[-1]

    async def turn(value: str) -> None:
        # What a reload of PostgreSQL's configuration does to every session.
        await opened[0].execute(f"SET synchronous_commit = {value}")  # type: ignore[arg-type]

    async def run() -> None:
        async with writing(connect) as writer:
            await writer.submit(submission(start("before")))
            await turn("off")
            with pytest.raises(NotCommittedError, match="could lose"):
                await writer.submit(submission(start("during")))
            await turn("on")
            await writer.submit(submission(start("after")))

    asyncio.run(run())
    assert stored(database) == ["after", "before"]


def test_a_client_that_goes_away_while_waiting_loses_nothing_that_is_committed(database: Database) -> None:
    async def run() -> None:
        async with writing(connect_to(database.url)) as writer:
            waiting = asyncio.create_task(writer.submit(submission(start("gone"))))
            await asyncio.sleep(0)
            waiting.cancel()
            await writer.submit(submission(start("next")))

    asyncio.run(run())
    assert stored(database) == ["gone", "next"]


def test_a_stop_commits_what_is_queued(database: Database) -> None:
    async def run() -> None:
        async with writing(connect_to(database.url)) as writer:
            tasks = [asyncio.create_task(writer.submit(submission(start(f"s{place}")))) for place in range(9)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert len(stored(database)) == 9


class Proxy:
    """Between the writer and PostgreSQL; when `silent`, bytes are swallowed and the connection stays open."""

    def __init__(self, target: Path, folder: Path) -> None:
        self._target, self._socket = target, folder / ".s.PGSQL.5432"
        self.silent = False
        self.connections = 0

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_unix_server(self._serve, path=self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            if not self.silent:
                writer.write(chunk)
                await writer.drain()
        writer.close()


def test_a_connection_that_goes_silent_is_given_up_before_the_deadline_and_replaced(database: Database) -> None:
    postgres_folder = Path(database.url.partition("host=")[2])

    async def run(folder: Path) -> None:
        url = database.url.replace(str(postgres_folder), str(folder))
        async with (
            Proxy(postgres_folder / ".s.PGSQL.5432", folder) as proxy,
            writing(connect_to(url), timeout=0.5) as writer,
        ):
            await writer.submit(submission(start("before")))
            proxy.silent = True
            began = time.monotonic()
            with pytest.raises(NotCommittedError):
                await writer.submit(submission(start("during")))
            assert 0.4 < time.monotonic() - began < 4
            proxy.silent = False
            await writer.submit(submission(start("during")))
            assert proxy.connections == 2

    with socket_dir() as folder:
        asyncio.run(run(folder))
    assert stored(database) == ["before", "during"]


def test_without_a_database_requests_fail_and_the_writer_goes_on(database: Database) -> None:
    async def run() -> None:
        broken = True

        async def connect() -> AsyncConnection:
            if broken:
                raise psycopg.OperationalError("down")
            return await connect_to(database.url)()

        async with writing(connect) as writer:
            with pytest.raises(NotCommittedError):
                await writer.submit(submission(start("a")))
            broken = False
            await writer.submit(submission(start("a")))

    asyncio.run(run())
    assert stored(database) == ["a"]


def test_only_ended_streams_wake_the_workers(database: Database) -> None:
    woken: list[int] = []

    async def run() -> None:
        async with writing(connect_to(database.url), on_ended=lambda: woken.append(1)) as writer:
            tokens = TokenDelivered(customer_id="acme", stream_id="a", time=T0, seq=1, output_tokens=1)
            await writer.submit(submission(start("a"), tokens))
            assert not woken
            end = StreamEnd(customer_id="acme", stream_id="a", time=T0, outcome=Outcome.COMPLETED)
            await writer.submit(submission(end))
            assert woken

    asyncio.run(run())


def test_writers_that_meet_the_same_streams_do_not_deadlock(database: Database) -> None:
    async def run() -> None:
        async with writing(connect_to(database.url)) as first, writing(connect_to(database.url)) as second:
            for turn in range(20):
                names = [f"s{place}" for place in range(40)]
                forward = submission(*(start(name) for name in names), received_at=T0 + timedelta(seconds=turn))
                tokens = [
                    TokenDelivered(customer_id="acme", stream_id=name, time=T0, seq=turn, output_tokens=turn)
                    for name in reversed(names)
                ]
                await asyncio.gather(first.submit(forward), second.submit(submission(*tokens)))

    asyncio.run(run())
    assert len(stored(database)) == 40


def test_every_answer_follows_a_flush_of_the_log_to_disk(database: Database) -> None:
    """`kill -9` would not show it: the page cache survives that. PostgreSQL counts its fdatasync calls."""

    async def run() -> None:
        async with writing(connect_to(database.url)) as writer:
            for place in range(30):
                await writer.submit(submission(start(f"s{place}")))

    with psycopg.connect(database.url, autocommit=True) as connection:
        before = flushes(connection)
        asyncio.run(run())
        deadline = time.monotonic() + 60
        while flushes(connection) - before < 30 and time.monotonic() < deadline:
            time.sleep(0.2)  # backends report their counts with a delay
        assert flushes(connection) - before >= 30


def flushes(connection: psycopg.Connection) -> int:
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute("SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'").fetchone()
    assert row is not None
    return int(row[0] or 0)
