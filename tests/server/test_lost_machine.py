"""A machine is lost: its database is restored elsewhere, and gateways send again what the backup did not have."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from metering.access.manage_access import create_key
from metering.access.store.keys import Role
from metering.audit.run import audit
from metering.core.clock import utc_now
from metering.emitter import Emitter
from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageSource
from metering.events.usage import Usage
from metering.server.embedded.data_dir import Services
from metering.server.embedded.postgres import SYSTEM_USER, client_tool
from tests.command_line import CommandLine
from tests.database import Database
from tests.running_api import Api, signed_in
from tests.server.backups import cluster
from tests.waiting import eventually

pytestmark = pytest.mark.long

_BILLS = """
    SELECT customer_id, stream_id, charge_id, usd_cents::text, lines::text, rate_card_id, period
    FROM charges ORDER BY 1, 2
"""


class Gateway:
    """Emits one stream after the other, each a little longer than the last."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.streams = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            self._stream(f"s{self.streams}", self.streams)
            self.streams += 1
            time.sleep(0.002)

    def _stream(self, stream_id: str, number: int) -> None:
        whose = {"customer_id": f"customer-{number % 7}", "stream_id": stream_id}
        now = datetime.now(UTC)
        self.emitter.emit(StreamStart(**whose, time=now, provider="anthropic", model="claude-opus-4.7"))
        self.emitter.emit(TokenDelivered(**whose, time=now, seq=1, output_tokens=number))
        usage = Usage(input_tokens=812, output_tokens=number)
        ended = {"outcome": Outcome.COMPLETED, "usage": usage, "usage_source": UsageSource.PROVIDER}
        self.emitter.emit(StreamEnd(**whose, time=now + timedelta(milliseconds=5), **ended))  # type: ignore[arg-type]

    def acknowledges(self, more: int) -> bool:
        """Whether so many further events are acknowledged in time."""
        until = self.emitter.stats().sent + more
        return eventually(lambda: self.emitter.stats().sent >= until)

    def stop(self) -> None:
        self.over.set()


@contextmanager
def gateway_of(api: Api, spool: Path) -> Iterator[Gateway]:
    """A gateway that posts, and a worker that finalizes meanwhile; at the end all is acknowledged."""
    key = create_key(engine=api.service.engine, role=Role.INGEST, name="gw", customer_id=None, now=utc_now())
    emitter = Emitter(url=api.url, key=str(key), source="/gw", spool=spool, keep_sent=3_600)
    (spool / "key").write_text(str(key))
    gateway = Gateway(emitter)
    threads = [
        threading.Thread(target=gateway.run),
        threading.Thread(target=lambda: _finalize_until(api, gateway)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield gateway
    finally:
        gateway.stop()
        for thread in threads:
            thread.join()
        assert emitter.close(timeout=60)


def _finalize_until(api: Api, gateway: Gateway) -> None:
    while not gateway.over.is_set():
        api.finalize()


def resend(spool: Path, api: Api, since: str) -> str:
    """What a person runs on the gateway's machine; returns what it says."""
    environment = {**os.environ, "METERING_INGEST_KEY": (spool / "key").read_text()}
    command = [sys.executable, "-m", "metering.emitter", "resend", "--spool", str(spool)]
    done = subprocess.run(
        [*command, "--url", api.url, "--since", since],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def bills(database: Database) -> list[tuple[object, ...]]:
    with psycopg.connect(database.url) as connection:
        return connection.execute(_BILLS).fetchall()


def _configure(folder: Path, lines: str) -> None:
    with (folder / "postgres/postgresql.auto.conf").open("a") as file:
        file.write(lines)


def _base_backup(database: Database, folder: Path) -> None:
    command = [str(client_tool("pg_basebackup")), f"--pgdata={folder}", "--checkpoint=fast"]
    url = database.url.replace("/metering?", "/postgres?")
    subprocess.run([*command, f"--dbname={url}"], check=True, capture_output=True)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{SYSTEM_USER}:", str(folder)], check=True)


def _is_writable(database: Database) -> bool:
    with psycopg.connect(database.url) as connection:
        return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def stream_count(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT count(*) FROM streams").fetchone()
    assert row is not None
    return int(row[0])


def finalize_all(api: Api, database: Database) -> None:
    def is_done() -> bool:
        api.finalize()
        with psycopg.connect(database.url) as connection:
            row = connection.execute("SELECT count(*) FROM streams WHERE state <> 'finalized'").fetchone()
        return row == (0,)

    assert eventually(is_done)


def differences(api: Api) -> list[str]:
    return [each.says for each in audit(engine=api.service.engine, now=utc_now()).differences]


def test_backed_up_under_load_restored_elsewhere_and_sent_again_the_bills_are_the_same(
    api: Api, rated_database: Database, services: Services, data: Path, tmp_path: Path
) -> None:
    spool, backup = tmp_path / "spool", tmp_path / "backup"
    with gateway_of(api, spool) as gateway:
        assert gateway.acknowledges(500)
        before = gateway.emitter.stats().sent
        CommandLine(rated_database)("backup", str(backup))
        assert gateway.emitter.stats().sent > before, "the gateway posted while the backup was made"
        assert gateway.acknowledges(500)
    finalize_all(api, rated_database)
    wanted, streams = bills(rated_database), stream_count(rated_database)
    assert len(wanted) == streams == gateway.streams

    elsewhere = data / "elsewhere"
    told = CommandLine(None).json("restore", str(backup), "--into", str(elsewhere))
    with cluster(elsewhere, services) as restored, restored.service() as service, signed_in(service) as new:
        assert 100 < stream_count(restored) < streams, "what came after the backup is not in it"
        assert differences(new) == []
        assert "0 rejected, 0 files unreadable" in resend(spool, new, told["resend_since"])
        finalize_all(new, restored)
        assert bills(restored) == wanted
        assert differences(new) == []
        resend(spool, new, told["resend_since"])
        finalize_all(new, restored)
        assert bills(restored) == wanted, "sent twice, billed once"


def test_a_cluster_recovers_to_a_moment_between_two_backups(
    backup: Path, data: Path, services: Services, tmp_path: Path
) -> None:
    """PostgreSQL's own point-in-time recovery, with the settings that docs/backup.md names."""
    first, again, archive = data / "first", data / "again", data / "archive"
    CommandLine(None)("restore", str(backup), "--into", str(first))
    for folder in (archive, again):
        folder.mkdir()
        folder.chmod(0o777)  # PostgreSQL runs as a user of its own when we are root
    _configure(first, f"archive_mode = on\narchive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'\n")
    spool = tmp_path / "spool"
    with cluster(first, services) as running:
        _base_backup(running, again / "postgres")
        with running.service() as service, signed_in(service) as api:
            known = stream_count(running)
            with gateway_of(api, spool) as gateway:
                assert gateway.acknowledges(100)
                streams_then, moment = stream_count(running), datetime.now(UTC)
                assert gateway.acknowledges(100)
            wanted = stream_count(running)
        with psycopg.connect(running.url, autocommit=True) as connection:
            connection.execute("SELECT pg_switch_wal()")
        assert eventually(lambda: any(archive.iterdir()))
    _configure(
        again,
        f"restore_command = 'cp {archive}/%f %p'\nrecovery_target_time = '{moment.isoformat()}'\n"
        "recovery_target_action = promote\narchive_mode = off\n",
    )
    (again / "postgres" / "recovery.signal").touch()
    with cluster(again, services) as recovered:
        assert eventually(lambda: _is_writable(recovered))
        with recovered.service() as service, signed_in(service) as api:
            assert known < streams_then <= stream_count(recovered) < wanted
            assert differences(api) == []
            resend(spool, api, (moment - timedelta(minutes=10)).isoformat())
            assert stream_count(recovered) == wanted
            assert differences(api) == []
