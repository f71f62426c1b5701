"""The stage of a benchmark: new embedded servers, a migrated database, and the product's own processes."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep

import httpx2
import msgspec
import psycopg
from celery import Celery
from psycopg.rows import scalar_row
from pydantic import SecretStr

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.lab.bench.driver import Driven, Order
from metering.lab.bench.workload import Workload
from metering.server.bootstrap import Service, build_service
from metering.server.embedded.data_dir import Services, ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from metering.server.settings import Settings
from metering.server.up import free_port, metering_child, prepare
from metering.streams.ingest.nudge import FINALIZE_TASK, QUEUE, celery_url

# Prints a line of progress.
Say = Callable[[str], None]

HOST = "127.0.0.1"
_SERVERS = ("postgres", "valkey")
_EXTRA_SECONDS = 120.0


class BenchFailedError(MeteringError):
    """A benchmark has no result; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The servers and the database of a benchmark; `stage()` removes all of it at its end."""

    supervisor: Supervisor
    servers: Supervisor
    service: Service
    database_url: str
    environment: dict[str, str]
    port: int
    key: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start_api(self, *, processes: int = 1) -> None:
        """Start the API, as `metering api` runs it."""
        arguments = ["api", "--host", HOST, "--port", str(self.port), "--processes", str(processes)]
        ready = f"{self.url}/livez"
        self.supervisor.start([metering_child("api", arguments, environment=self.environment, ready_url=ready)])

    def start_worker(self) -> int:
        """Start a worker process, as `metering worker` runs it; returns its process id."""
        name = f"worker {next(self._numbers)}"
        self.supervisor.start([metering_child(name, ["worker"], environment=self.environment)])
        return self.pid_of(name)

    def pid_of(self, name: str) -> int:
        """The process id of a running part, by its name."""
        pid = (self.servers if name in _SERVERS else self.supervisor).pid_of(name)
        assert pid is not None
        return pid

    def drive(
        self,
        workload: Workload,
        *,
        connections: int,
        seconds: float,
        seed: int,
        warm_up_seconds: float = 2.0,
        hold_customers: int = 0,
        port: int | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Driven:
        """Post a workload from another process; calls `meanwhile` every second until it ends.

        It is posted to the API, or to another server at `port`.

        Raises:
            BenchFailedError: the other process failed, or did not end in time.
        """
        order = Order(
            host=HOST,
            port=port or self.port,
            key=self.key,
            workload=workload,
            connections=connections,
            seconds=seconds,
            warm_up_seconds=warm_up_seconds,
            seed=seed,
            hold_customers=hold_customers,
        )
        driver = subprocess.Popen(
            [sys.executable, "-m", "metering.lab.bench.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        give_up_at = monotonic() + seconds + _EXTRA_SECONDS
        sent: bytes | None = msgspec.json.encode(order)
        try:
            while driver.returncode is None and monotonic() < give_up_at:
                try:
                    answer, _ = driver.communicate(sent, timeout=1.0)
                except subprocess.TimeoutExpired:
                    sent = None
                    if meanwhile is not None:
                        meanwhile()
        except KeyboardInterrupt:
            driver.kill()
            raise
        if driver.returncode != 0:
            driver.kill()
            driver.wait()
            raise BenchFailedError("the driver did not finish; its output is above")
        return msgspec.json.decode(answer, type=Driven)

    @property
    def url(self) -> str:
        """The URL of the API."""
        return f"http://{HOST}:{self.port}"

    def reader_headers(self) -> dict[str, str]:
        """Headers with a new key that has the role `read`."""
        engine = self.service.engine
        key = create_key(engine=engine, role=Role.READ, name="bench", customer_id=None, now=utc_now())
        return {"authorization": f"Bearer {key}"}

    def metric(self, name: str) -> float:
        """The value of one of the API's metrics."""
        lines = httpx2.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def nudge(self) -> None:
        """Wake a worker, as ingest does."""
        with Celery(broker=celery_url(self.environment["METERING_REDIS_URL"]), set_as_current=False) as celery:
            celery.send_task(FINALIZE_TASK, queue=QUEUE, ignore_result=True)

    def wait_until_a_worker_works(self, *, within: float = 120.0) -> None:
        """Return when a worker has written a heartbeat.

        Raises:
            BenchFailedError: none has, in time.
        """
        give_up_at = monotonic() + within
        while not self.one("SELECT count(*) FROM worker_heartbeats"):
            if monotonic() > give_up_at:
                raise BenchFailedError("the worker did not start")
            sleep(0.1)

    def wait_until_nothing_is_due(self, *, within: float = 600.0) -> None:
        """Return when no stream is due.

        Raises:
            BenchFailedError: streams are still due after `within` seconds.
        """
        give_up_at = monotonic() + within
        # One connection and few queries, so that waiting does not load the server.
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while connection.execute("SELECT FROM streams WHERE due_at <= now() LIMIT 1").rowcount:
                if monotonic() > give_up_at:
                    raise BenchFailedError(f"streams are still due after {within:g} s")
                sleep(0.1)

    def postgres_version(self) -> str:
        """The server's version."""
        with psycopg.connect(self.database_url) as connection:
            return connection.info.parameter_status("server_version") or ""

    def wal_bytes(self) -> int:
        """The bytes that the server has written to its WAL so far."""
        return self.one("SELECT pg_current_wal_lsn() - '0/0'")

    def one(self, query: str) -> int:
        """The single number that a query returns, as the database's superuser."""
        with psycopg.connect(self.database_url, autocommit=True, row_factory=scalar_row) as connection:
            return int(connection.execute(query.encode()).fetchone() or 0)

    def execute(self, statement: str) -> None:
        """Run a statement as the database's superuser."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode())


# How a benchmark gets its stages; each has an empty database with rates.
Stages = Callable[[], AbstractContextManager[Stage]]


@contextmanager
def stage() -> Iterator[Stage]:
    """Start new servers with the settings of `metering up`, and never use a configured database."""
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as servers,
        embedded_services(data=data, supervisor=servers) as services,
    ):
        prepare(_settings(services))
        with stage_on(services, servers=servers) as running:
            yield running


@contextmanager
def stage_on(services: Services, *, servers: Supervisor) -> Iterator[Stage]:
    """A stage on servers that run already, with a prepared database; `servers` supervises them."""
    with Supervisor(quiet=True) as supervisor:
        service = build_service(_settings(services))
        key = create_key(engine=service.engine, role=Role.INGEST, name="bench", customer_id=None, now=utc_now())
        yield Stage(
            supervisor=supervisor,
            servers=servers,
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
        service.dispose()


def _settings(services: Services) -> Settings:
    return Settings(database_url=SecretStr(services.database_url), redis_url=SecretStr(services.redis_url))
