"""An upgrade while gateways post: the previous release's API and worker go on, and restart, on the new schema."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import psycopg
import pytest

import migrations
from metering.access.manage_access import create_key
from metering.access.store.keys import Role
from metering.audit.run import audit
from metering.db.engine import owner_engine
from metering.db.migrate import migrate
from metering.db.schema import MigrationBlockedError
from metering.server.embedded.data_dir import Services
from metering.server.up import free_port
from tests.database import Database, Template, clone
from tests.db.releases import NEXT_HEAD, code_of, next_release
from tests.running_api import http_client
from tests.tools import PREVIOUS_RELEASE, need
from tests.waiting import eventually


@dataclass(slots=True)
class Gateway:
    """Posts one stream after the other until it is stopped; each until it is acknowledged."""

    url: str
    key: str
    acknowledged: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with http_client(self.url, headers={"authorization": f"Bearer {self.key}"}) as client:
            while not self._over.is_set():
                self._post(client, f"s{self.acknowledged}")

    def _post(self, client: httpx2.Client, stream_id: str) -> None:
        at = datetime.now(UTC).isoformat()
        facts = {"stream-start": {"provider": "anthropic", "model": "claude-opus-4.7"}}
        facts["stream-end"] = {"outcome": "completed", "usage": {"input_tokens": 5, "output_tokens": 7}}  # type: ignore[dict-item]
        events = [
            {"specversion": "1.0", "type": kind, "source": "/gw", "id": f"{stream_id}:{kind}", "subject": "acme"}
            | {"time": at, "data": {"stream_id": stream_id, **data}}
            for kind, data in facts.items()
        ]
        with suppress(httpx2.HTTPError):
            self.acknowledged += client.post("/v1/events", json=events, timeout=10).status_code == 200
        time.sleep(0.02)

    def goes_on(self) -> bool:
        """Whether a number of further streams are acknowledged in time."""
        until = self.acknowledged + 15
        return eventually(lambda: self.acknowledged >= until)

    def stop(self) -> None:
        self._over.set()


@contextmanager
def posting(url: str, key: str) -> Iterator[Gateway]:
    gateway = Gateway(url, key)
    thread = threading.Thread(target=gateway.run)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.stop()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The code of a release, against the database of the test."""

    code: Path
    database: Database
    logs: Path

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "",  # each process would compile the release again
            "METERING_DATABASE_URL": self.database.url,
            "METERING_REDIS_URL": self.database.redis_url,
        }
        with self.log_of(command[0]).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "metering", *command],
                cwd=self.code,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def log_of(self, command: str) -> Path:
        return self.logs / f"{self.code.name}-{command}.log"

    @contextmanager
    def running(self, port: int) -> Iterator[None]:
        """Its API and a worker, stopped when the block ends."""
        parts = [self.start("api", "--port", str(port)), self.start("worker", "--concurrency", "1")]
        try:
            assert eventually(lambda: _is_ready(port), ignoring=(httpx2.HTTPError,)), self.log_of(
                "api"
            ).read_text()
            yield
            assert [part.poll() for part in parts] == [None, None], self.log_of("worker").read_text()
        finally:
            for part in parts:
                part.terminate()
            for part in parts:
                part.wait(60)


def _is_ready(port: int) -> bool:
    return httpx2.get(f"http://127.0.0.1:{port}/readyz").is_success


def _version(database: Database) -> str:
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row is not None
    return str(row[0])


def _not_billed(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT count(*) FROM streams WHERE state <> 'finalized'").fetchone()
    assert row is not None
    return int(row[0])


def test_the_previous_release_goes_on_and_restarts_on_the_schema_of_the_next(
    rated_database: Database, tmp_path: Path
) -> None:
    need("git history")
    old = Release(code=code_of(PREVIOUS_RELEASE, tmp_path / "old"), database=rated_database, logs=tmp_path)
    new = Release(code=next_release(tmp_path / "new"), database=rated_database, logs=tmp_path)
    with rated_database.service() as service:
        key = str(create_key(engine=service.engine, role=Role.INGEST, name="t", customer_id=None, now=_now()))
    port = free_port()
    with posting(f"http://127.0.0.1:{port}", key) as gateway:
        with old.running(port):
            assert gateway.goes_on()
            with psycopg.connect(rated_database.url) as report:
                report.execute("SELECT count(*) FROM streams")
                migration = new.start("migrate")
                waits = new.log_of("migrate")
                assert eventually(lambda: "will retry" in waits.read_text()), waits.read_text()
                assert gateway.goes_on(), "ingest goes on while the migration waits for a report"
                assert _version(rated_database) != NEXT_HEAD
            assert migration.wait(120) == 0, waits.read_text()
            assert _version(rated_database) == NEXT_HEAD
            assert gateway.goes_on(), "the old API goes on"
        with old.running(port):
            assert gateway.goes_on(), "the old API restarts"
            gateway.stop()
            assert eventually(lambda: _not_billed(rated_database) == 0), "the old worker restarts"
    with rated_database.service() as service:
        report = audit(engine=service.engine, now=_now())
    assert report.streams >= gateway.acknowledged > 60
    assert report.differences == []


def test_a_migration_that_gets_no_lock_says_what_to_do_and_goes_on_from_there(services: Services) -> None:
    with clone(services, Template("template0")) as database:
        owner = owner_engine(database.url)
        with psycopg.connect(database.url) as other:
            other.execute("CREATE SCHEMA reporting")
            with pytest.raises(MigrationBlockedError, match=r"lock timeout.*pg_stat_activity"):
                migrate(owner, patience=timedelta(0))
            other.rollback()
        reached = _version(database)
        assert "0001" < reached < migrations.HEAD
        assert migrate(owner) == migrations.HEAD
        owner.dispose()


def _now() -> datetime:
    return datetime.now(UTC)
