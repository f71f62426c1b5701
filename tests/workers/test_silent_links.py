"""Workers whose links to PostgreSQL go silent in the middle of a statement are back within seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

import workers.heartbeat
from metering.db.engine import service_engine
from metering.server.bootstrap import Service
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from tests.database import Database
from tests.database_proxy import DatabaseProxy, proxied
from tests.ended_streams import end_a_stream, store_ended_stream
from tests.waiting import eventually
from workers.finalizing import Finalizing
from workers.heartbeat import Heartbeat

pytestmark = pytest.mark.long

NOWHERE = "unix:///nonexistent/valkey.sock"


def one(database: Database, query: str) -> object:
    with psycopg.connect(database.url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def wait_for_worker(database: Database, *tables: str) -> None:
    """Until a statement of the worker waits for each of the tables."""
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = '{}'::regclass AND NOT granted"
    for table in tables:
        assert eventually(lambda table=table: one(database, waiting.format(table)) != 0), table


# Each is waited for by a thread of its own: of roll-ups, of months and of alerts.
LOOKS = ("totals_rolled_up", "invoice_runs", "alert_evaluations")
DONE = (
    "SELECT count(*) = 1 FROM charges",
    "SELECT count(*) = 1 FROM totals_hourly",
    "SELECT finished_at IS NOT NULL FROM invoice_runs",
    "SELECT bool_and(evaluated_at IS NOT NULL) FROM alert_evaluations",
)


@pytest.mark.parametrize("finalizing", ["streams", "charges"])
def test_a_worker_whose_links_all_go_silent_in_the_middle_of_statements_is_soon_back(
    rated_database: Database, finalizing: str
) -> None:
    with (
        psycopg.connect(rated_database.url) as blocker,
        proxied(rated_database) as (proxy, through),
        Supervisor(quiet=True) as supervisor,
    ):
        for table in LOOKS:
            blocker.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        environment = {"METERING_DATABASE_URL": through.url, "METERING_REDIS_URL": NOWHERE}
        argv = [sys.executable, "-m", "metering", "worker"]
        supervisor.start([ChildSpec(name="worker", argv=argv, env=environment)])
        wait_for_worker(rated_database, *LOOKS)
        # A COPY that waits for its rows ends only with its link, anything else by deadlines of PostgreSQL's.
        proxy.tells_of_ends = finalizing == "charges"
        if finalizing == "charges":
            end_a_stream(rated_database, "one")
        blocker.execute(f"LOCK TABLE {finalizing} IN ACCESS EXCLUSIVE MODE")
        if finalizing == "streams":
            store_ended_stream(blocker, "one")
        wait_for_worker(rated_database, finalizing)
        proxy.silence(new_ones=False)
        blocker.execute(
            "INSERT INTO invoice_runs (run_id, period, requested_by, started_at)"
            " VALUES ('run_test', '2020-01', 'test', now())"
        )
        blocker.commit()
        began = time.monotonic()
        for done in DONE:
            assert eventually(lambda done=done: one(rated_database, done) is True, within=30), done
            print(f"{time.monotonic() - began:.1f} s: {done}")
        assert supervisor.restarts_of("worker") == 0


@contextmanager
def behind_a_proxy(database: Database) -> Iterator[tuple[DatabaseProxy, Service]]:
    """A service whose quick statements have a second."""
    second = timedelta(seconds=1)
    with proxied(database) as (proxy, through), through.service() as service:
        quick = service_engine(through.url, statement_timeout=second, idle_timeout=second)
        yield proxy, replace(service, quick_engine=quick)
        quick.dispose()


COUNTED = """
    SELECT (SELECT coalesce(sum(stream_count), 0) FROM totals_pending)
         + (SELECT coalesce(sum(stream_count), 0) FROM totals_hourly)
"""


def test_a_batch_whose_commit_was_not_answered_is_booked_once(rated_database: Database) -> None:
    end_a_stream(rated_database, "one")
    with behind_a_proxy(rated_database) as (proxy, service):
        batches: list[int] = []
        finalizing = Finalizing(lambda: service, on_batch=lambda streams, _: batches.append(streams))
        # The first commit is of reading the prices.
        proxy.silence_after(b"COMMIT", times=2)
        finalizing.drain()
        assert proxy.lost.is_set()
        finalizing.drain()
        end_a_stream(rated_database, "two")
        finalizing.drain()
        assert batches == [1]
    assert one(rated_database, "SELECT count(*) FROM charges") == 2
    assert one(rated_database, COUNTED) == 2


def test_a_heartbeat_whose_commit_was_not_answered_is_counted_once(
    rated_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind_a_proxy(rated_database) as (proxy, service):
        heartbeat = Heartbeat(lambda: service)
        heartbeat.count_batch(5, 1.0)
        proxy.silence_after(b"COMMIT")
        heartbeat.write_if_due()
        assert proxy.lost.is_set()
        assert one(rated_database, "SELECT sum(streams) FROM worker_heartbeats") == 5
        heartbeat.count_batch(2, 1.0)
        heartbeat.write_if_due()
        assert one(rated_database, "SELECT sum(streams) FROM worker_heartbeats") == 5
        monkeypatch.setattr(workers.heartbeat, "WRITE_SECONDS", 0)
        heartbeat.write_if_due()
        assert one(rated_database, "SELECT sum(streams) FROM worker_heartbeats") == 7
