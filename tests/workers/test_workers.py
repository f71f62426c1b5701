"""Workers: the row is the work, so a broker that is gone, full or silent only costs freshness."""

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from metering.db.engine import DatabaseUnavailableError
from metering.server.bootstrap import Service
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.streams.ingest.nudge import MAX_WAITING, QUEUE, Nudger
from tests.database import Database
from tests.database_proxy import proxied
from tests.ended_streams import end_a_stream
from tests.metrics import scrape_work
from tests.waiting import eventually
from workers import worker
from workers.rates import Rates

pytestmark = pytest.mark.long

NOWHERE = "unix:///nonexistent/valkey.sock"


def part(name: str, database: Database, redis_url: str) -> ChildSpec:
    environment = {"METERING_DATABASE_URL": database.url, "METERING_REDIS_URL": redis_url}
    return ChildSpec(name=name, argv=[sys.executable, "-m", "metering", name], env=environment)


def charges(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT count(*) FROM charges").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def redis_url(database: Database) -> str:
    with Redis.from_url(database.redis_url) as redis:
        redis.flushall()
    return database.redis_url


def test_a_worker_compares_rates_when_due_and_says_so(
    rated_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    rates = Rates(lambda: rated_service)
    rates.compare_if_due()
    first = scrape_work(rated_service)
    assert first("metering_rates_compared_seconds") < 60
    assert first("metering_price_changes") == 0
    with rated_service.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE rate_comparisons SET due_at = 'infinity'")
    rates.compare_if_due()
    assert "other prices" not in caplog.text


def test_a_worker_finalizes_without_any_broker(rated_database: Database) -> None:
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([part("worker", rated_database, NOWHERE)])
        end_a_stream(rated_database, "s")
        assert eventually(lambda: charges(rated_database) == 1)
        assert supervisor.restarts_of("worker") == 0


def test_a_worker_writes_a_heartbeat_and_every_api_shows_its_work(
    rated_database: Database, rated_service: Service
) -> None:
    end_a_stream(rated_database, "one")
    end_a_stream(rated_database, "two")
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([part("worker", rated_database, NOWHERE)])
        assert eventually(lambda: scrape_work(rated_service)("metering_workers") == 1)
        first = scrape_work(rated_service)
        assert first("metering_streams_finalized_total") == 2
        assert first("metering_finalize_seconds_total") > 0
        assert first("metering_finalize_batches_total") >= 1
        assert eventually(lambda: "metering_totals_rolled_up_seconds" in scrape_work(rated_service))
        end_a_stream(rated_database, "three")
        assert eventually(lambda: scrape_work(rated_service)("metering_streams_finalized_total") == 3)


def test_a_worker_starts_without_the_database_and_waits_for_it(rated_database: Database) -> None:
    said = io.StringIO()
    with proxied(rated_database) as (proxy, through), Supervisor(output=said) as supervisor:
        proxy.break_after(0)
        supervisor.start([part("worker", through, NOWHERE)])
        assert eventually(lambda: "worker is running" in said.getvalue())
        assert "PostgreSQL is unavailable: work waits until it is back" in said.getvalue()
        end_a_stream(rated_database, "one")
        proxy.mend()
        assert eventually(lambda: charges(rated_database) == 1)
        assert supervisor.restarts_of("worker") == 0


@pytest.mark.parametrize("new_ones", [True, False])
def test_a_worker_goes_on_soon_after_a_database_that_was_silent(rated_database: Database, new_ones: bool) -> None:
    with proxied(rated_database) as (proxy, through), Supervisor(quiet=True) as supervisor:
        supervisor.start([part("worker", through, NOWHERE)])
        end_a_stream(rated_database, "one")
        assert eventually(lambda: charges(rated_database) == 1)
        proxy.silence(new_ones=new_ones)
        time.sleep(5)
        end_a_stream(rated_database, "two")
        proxy.speak()
        began = time.monotonic()
        assert eventually(lambda: charges(rated_database) == 2)
        print(f"finalized {time.monotonic() - began:.1f} s after the database was back")
        assert time.monotonic() - began < 30
        assert supervisor.restarts_of("worker") == 0


def test_two_workers_and_two_beats_book_each_stream_once(rated_database: Database, redis_url: str) -> None:
    names = [f"s{place}" for place in range(20)]
    with Supervisor(quiet=True) as supervisor:
        supervisor.start([part(name, rated_database, redis_url) for name in ("worker", "worker", "beat", "beat")])
        for name in names:
            end_a_stream(rated_database, name)
        assert eventually(lambda: charges(rated_database) == len(names))


def test_a_queue_without_a_reader_stays_small(rated_database: Database, redis_url: str) -> None:
    nudger = Nudger(redis_url=redis_url)
    nudger.start()
    with Redis.from_url(redis_url) as redis:
        for _ in range(60):
            nudger.nudge()
            time.sleep(0.05)
        nudger.stop()
        assert 5 < redis.llen(QUEUE) <= MAX_WAITING
        redis.lpush(QUEUE, *["{}"] * MAX_WAITING)
        waiting = redis.llen(QUEUE)
        with Supervisor(quiet=True) as supervisor:
            supervisor.start([part("beat", rated_database, redis_url)])
            time.sleep(4)
            assert redis.llen(QUEUE) == waiting
        redis.flushall()


def test_a_nudge_without_a_broker_neither_blocks_nor_fails() -> None:
    nudger = Nudger(redis_url=NOWHERE)
    nudger.start()
    began = time.monotonic()
    for _ in range(1000):
        nudger.nudge()
    assert time.monotonic() - began < 1
    nudger.stop()


@pytest.mark.parametrize("name", ["api", "worker", "beat"])
def test_a_part_without_its_settings_says_which_in_one_line(name: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("METERING_")}
    environment["METERING_DATA"] = str(tmp_path)
    command = [sys.executable, "-m", "metering", name]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("metering: METERING_DATABASE_URL is not set, and no `metering up` runs on ")
    assert ended.stderr.count("\n") == 1


def test_a_worker_keeps_looking_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "INTERVAL_SECONDS", 0.01)
    attempts: list[float] = []

    def unavailable() -> Service:
        attempts.append(time.monotonic())
        raise DatabaseUnavailableError("down")

    looking = worker.Worker(unavailable)
    looking.start()
    assert eventually(lambda: len(attempts) >= 12)
    looking.stop()


def test_a_bug_in_one_look_ends_no_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "INTERVAL_SECONDS", 0.01)
    attempts: list[str] = []

    def broken() -> Service:
        attempts.append(threading.current_thread().name)
        raise ZeroDivisionError

    looking = worker.Worker(broken)
    looking.start()
    assert eventually(lambda: all(attempts.count(name) >= 2 for name in ("streams", "months", "webhooks")))
    looking.stop()
    assert "unexpected error, will retry" in caplog.text
