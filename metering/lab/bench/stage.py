"""The servers under test: new embedded ones, a prepared database, and API and worker as they are deployed."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep

import httpx2
import msgspec
import psycopg
from celery import Celery
from psycopg.rows import scalar_row
from pydantic import SecretStr

from metering.access.manage_access import create_key
from metering.access.store.keys import Role
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.lab.bench.driver import Driven, Order
from metering.lab.bench.workload import Workload
from metering.server.bootstrap import Service, build_service
from metering.server.embedded.data_dir import ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from metering.server.settings import Settings
from metering.server.up import free_port, metering_child, prepare
from metering.streams.ingest.nudge import FINALIZE_TASK, QUEUE, celery_url

# How a benchmark tells a person how far it is.
Say = Callable[[str], None]

HOST = "127.0.0.1"
_PATIENCE_SECONDS = 60.0


class BenchFailedError(MeteringError):
    """A benchmark came to no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a benchmark works with; all of it is gone when `stage()` ends."""

    supervisor: Supervisor
    service: Service
    database_url: str
    environment: dict[str, str]
    port: int
    key: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start_api(self) -> None:
        """One API process, as `metering api` runs it."""
        arguments = ["api", "--host", HOST, "--port", str(self.port)]
        ready = f"{self.url}/livez"
        self.supervisor.start([metering_child("api", arguments, environment=self.environment, ready_url=ready)])

    def start_worker(self) -> int:
        """One worker process, as `metering worker` runs it; returns its process id."""
        name = f"worker {next(self._numbers)}"
        self.supervisor.start([metering_child(name, ["worker"], environment=self.environment)])
        return self.pid_of(name)

    def pid_of(self, name: str) -> int:
        """The process id of a part that runs."""
        pid = self.supervisor.pid_of(name)
        assert pid is not None
        return pid

    def drive(
        self,
        workload: Workload,
        *,
        connections: int,
        seconds: float,
        seed: int,
        meanwhile: Callable[[], None] | None = None,
    ) -> Driven:
        """Post a workload from another process, and call `meanwhile` every second until it is done."""
        order = Order(
            host=HOST,
            port=self.port,
            key=self.key,
            workload=workload,
            connections=connections,
            seconds=seconds,
            seed=seed,
        )
        driver = subprocess.Popen(
            [sys.executable, "-m", "metering.lab.bench.driver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        give_up_at = monotonic() + seconds + _PATIENCE_SECONDS
        sent: bytes | None = msgspec.json.encode(order)
        while driver.returncode is None and monotonic() < give_up_at:
            try:
                answer, _ = driver.communicate(sent, timeout=1.0)
            except subprocess.TimeoutExpired:
                sent = None
                if meanwhile is not None:
                    meanwhile()
        if driver.returncode != 0:
            driver.kill()
            driver.wait()
            raise BenchFailedError("the driver did not finish; what it said is above")
        return msgspec.json.decode(answer, type=Driven)

    @property
    def url(self) -> str:
        """Where the API is, once it is started."""
        return f"http://{HOST}:{self.port}"

    def reader_headers(self) -> dict[str, str]:
        """Headers that sign a reader in."""
        engine = self.service.engine
        key = create_key(engine=engine, role=Role.READ, name="bench", customer_id=None, now=utc_now())
        return {"authorization": f"Bearer {key}"}

    def metric(self, name: str) -> float:
        """A number from the API's own metrics."""
        lines = httpx2.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def nudge(self) -> None:
        """Wake a worker as ingest does."""
        with Celery(broker=celery_url(self.environment["METERING_REDIS_URL"]), set_as_current=False) as celery:
            celery.send_task(FINALIZE_TASK, queue=QUEUE, ignore_result=True)

    def wait_until_nothing_is_due(self, *, within: float = 600.0) -> None:
        """Return when the workers have caught up.

        Raises:
            BenchFailedError: they have not, in time.
        """
        give_up_at = monotonic() + within
        # One connection and few looks, so that looking is not what is measured.
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while connection.execute("SELECT FROM streams WHERE due_at <= now() LIMIT 1").rowcount:
                if monotonic() > give_up_at:
                    raise BenchFailedError("the workers did not catch up")
                sleep(0.1)

    def postgres_version(self) -> str:
        """The server's version."""
        with psycopg.connect(self.database_url) as connection:
            return connection.info.parameter_status("server_version") or ""

    def wal_bytes(self) -> int:
        """How much the server has ever written to its log."""
        return self.one("SELECT pg_current_wal_lsn() - '0/0'")

    def one(self, query: str) -> int:
        """A single number from the database, asked as its superuser."""
        with psycopg.connect(self.database_url, autocommit=True, row_factory=scalar_row) as connection:
            return int(connection.execute(query.encode()).fetchone() or 0)

    def execute(self, statement: str) -> None:
        """Run a statement as the database's superuser."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def stage() -> Iterator[Stage]:
    """New servers on a new folder. Their settings are those of `metering up`; a given database is not touched."""
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor) as services,
    ):
        settings = Settings(database_url=SecretStr(services.database_url), redis_url=SecretStr(services.redis_url))
        prepare(settings)
        service = build_service(settings)
        key = create_key(engine=service.engine, role=Role.INGEST, name="bench", customer_id=None, now=utc_now())
        yield Stage(
            supervisor=supervisor,
            service=service,
            database_url=services.database_url,
            environment={
                "METERING_DATABASE_URL": services.database_url,
                "METERING_REDIS_URL": services.redis_url,
                "METERING_LOG_FORMAT": "json",
            },
            port=free_port(HOST),
            key=str(key),
        )
        service.engine.dispose()
