"""An upgrade while gateways post: the previous release goes on, and restarts beside the next on its schema."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx2
import psycopg
import pytest
from sqlalchemy import Engine

import migrations
from metering.access.manage_access import create_key
from metering.access.store.keys import Role
from metering.audit.run import audit
from metering.db.engine import owner_engine, transaction
from metering.db.migrate import migrate
from metering.db.schema import MigrationBlockedError
from metering.ledger.store.totals_by_key import complete_totals_by_key
from metering.server.embedded.data_dir import Services
from metering.server.up import free_port
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import read_totals
from tests.database import Database, Template, clone
from tests.db.releases import NEXT_HEAD, code_of, next_release
from tests.running_api import http_client
from tests.tools import PREVIOUS_RELEASE, need
from tests.waiting import eventually

pytestmark = pytest.mark.long

# What each stream costs: 5 tokens at 5 and 7 at 25 dollars a million.
CENTS = Decimal("0.02")


@dataclass(slots=True)
class Gateway:
    """Posts one stream after the other until it is stopped; each until it is acknowledged.

    Each API gets each event; the start and the end of a stream come first to different ones, if there are several.
    """

    urls: Sequence[str]
    key: str
    name: str
    acknowledged: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        with ExitStack() as stack:
            clients = [stack.enter_context(http_client(url, headers=headers)) for url in self.urls]
            while not self._over.is_set():
                first = self.acknowledged % len(clients)
                self._post([*clients[first:], *clients[:first]], f"{self.name}-{self.acknowledged}")

    def _post(self, clients: Sequence[httpx2.Client], stream_id: str) -> None:
        at = datetime.now(UTC).isoformat()
        facts = {"stream-start": {"provider": "anthropic", "model": "claude-opus-4.7"}}
        facts["stream-end"] = {"outcome": "completed", "usage": {"input_tokens": 5, "output_tokens": 7}}  # type: ignore[dict-item]
        events = [
            {"specversion": "1.0", "type": kind, "source": "/gw", "id": f"{stream_id}:{kind}", "subject": "acme"}
            | {"time": at, "data": {"stream_id": stream_id, **data}}
            for kind, data in facts.items()
        ]
        posts = [
            (clients[(turn + place) % len(clients)], event)
            for turn in range(len(clients))
            for place, event in enumerate(events)
        ]
        with suppress(httpx2.HTTPError):
            answers = [client.post("/v1/events", json=event, timeout=10) for client, event in posts]
            self.acknowledged += all(answer.status_code == 200 for answer in answers)
        time.sleep(0.02)

    def goes_on(self) -> bool:
        """Whether a number of further streams are acknowledged in time."""
        until = self.acknowledged + 15
        return eventually(lambda: self.acknowledged >= until)

    def stop(self) -> None:
        self._over.set()


@contextmanager
def posting(*urls: str, key: str, name: str) -> Iterator[Gateway]:
    gateway = Gateway(urls, key, name)
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

    def batches(self) -> int:
        """How many batches its workers have finalized."""
        return len(re.findall(r"\bfinalized\b", self.log_of("worker").read_text()))

    @contextmanager
    def running(self, port: int) -> Iterator[None]:
        """Its API and a worker, stopped when the block ends."""
        parts = [self.start("api", "--port", str(port)), self.start("worker", "--concurrency", "1")]
        try:
            ready = eventually(lambda: _is_ready(port), within=120, ignoring=(httpx2.HTTPError,))
            assert ready, self.log_of("api").read_text()
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


def _booked(database: Database) -> dict[str, list[Decimal]]:
    """The amounts that were booked for each stream."""
    booked: dict[str, list[Decimal]] = {}
    with psycopg.connect(database.url) as connection:
        for stream_id, cents in connection.execute(
            "SELECT stream_id, usd_cents FROM entries WHERE usd_cents <> 0"
        ):
            booked.setdefault(stream_id, []).append(cents)
    return booked


def _summed_by_key(engine: Engine) -> Decimal:
    """What the totals of the last three days and this one sum to, by API key."""
    today = _now().replace(hour=0, minute=0, second=0, microsecond=0)
    question = TotalsQuestion(
        from_=today - timedelta(days=3), to=today + timedelta(days=1), group_by=[Group.API_KEY_ID]
    )
    with transaction(engine) as connection:
        return sum((row.usd_cents for row in read_totals(connection, question=question)), Decimal(0))


@pytest.mark.timeout(600)
def test_the_previous_release_goes_on_and_restarts_beside_the_next_on_its_schema(
    rated_database: Database, tmp_path: Path
) -> None:
    need("git history")
    old = Release(code=code_of(PREVIOUS_RELEASE, tmp_path / "old"), database=rated_database, logs=tmp_path)
    new = Release(code=next_release(tmp_path / "new"), database=rated_database, logs=tmp_path)
    with rated_database.service() as service:
        key = str(create_key(engine=service.engine, role=Role.INGEST, name="t", customer_id=None, now=_now()))
    port, new_port = free_port(), free_port()
    url, new_url = (f"http://127.0.0.1:{each}" for each in (port, new_port))
    with posting(url, key=key, name="before") as gateway:
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
        with old.running(port), new.running(new_port):
            assert gateway.goes_on(), "the old API restarts"
            gateway.stop()
            with posting(url, new_url, key=key, name="beside") as beside:
                done = {release.code: release.batches() for release in (old, new)}
                assert beside.goes_on(), "both releases take events of the same streams"
                for release in (old, new):
                    assert eventually(lambda release=release: release.batches() > done[release.code])
            assert eventually(lambda: _not_billed(rated_database) == 0), "the workers of both finalize"
    acknowledged = {f"{each.name}-{number}" for each in (gateway, beside) for number in range(each.acknowledged)}
    booked = _booked(rated_database)
    assert acknowledged <= booked.keys()
    assert {tuple(entries) for entries in booked.values()} == {(CENTS,)}, "each stream is booked once"
    with rated_database.service() as service:
        expected = CENTS * len(booked)
        assert _summed_by_key(service.engine) == expected, "sums that only the new release writes are not missed"
        complete_totals_by_key(service.engine, pause=timedelta(0))
        assert _summed_by_key(service.engine) == expected
        report = audit(engine=service.engine, now=_now())
    assert report.streams == len(booked) >= len(acknowledged) > 75
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
