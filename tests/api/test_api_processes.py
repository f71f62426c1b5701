"""Several API processes on one port share connections and count together, and none is missed when it dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx2
import psutil
import pytest

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.db.schema import ensure_journal_partitions
from metering.server.embedded.data_dir import Services
from metering.server.up import answers, free_port
from metering.serving.processes import listen
from tests.builders.posted import event
from tests.database import Template, clone
from tests.metrics import Scrape
from tests.running_api import http_client
from tests.waiting import eventually

pytestmark = pytest.mark.long

PROCESSES = 2
CONNECTIONS = 40


@dataclass(frozen=True, slots=True)
class Processes:
    """A running `metering api --processes 2`."""

    parent: subprocess.Popen[bytes]
    port: int
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[psutil.Process]:
        return [each for each in psutil.Process(self.parent.pid).children() if each.status() != "zombie"]

    def client(self) -> httpx2.Client:
        return http_client(self.url, headers={"authorization": f"Bearer {self.key}"})

    def post(self, client: httpx2.Client, stream: int) -> None:
        data = {"stream_id": f"s-{stream}", "provider": "openai", "model": "gpt-5", "input_tokens": 10}
        answer = client.post("/v1/events", json=[event("stream-start", data, id=f"e-{stream}")])
        assert answer.json()["accepted"] == 1, answer.text

    def total(self, metric: str) -> float:
        return Scrape(httpx2.get(f"{self.url}/metrics", timeout=60).text)(metric)


@contextmanager
def started(services: Services, template: Template) -> Iterator[Processes]:
    with clone(services, template) as database, database.service() as service:
        ensure_journal_partitions(service.engine, now=datetime.now(UTC))
        key = create_key(engine=service.engine, role=Role.ADMIN, name="t", customer_id=None, now=datetime.now(UTC))
        port = free_port()
        command = [sys.executable, "-m", "metering", "api", "--port", str(port), "--processes", str(PROCESSES)]
        variables = {"METERING_DATABASE_URL": database.url, "METERING_REDIS_URL": database.redis_url}
        running = Processes(subprocess.Popen(command, env={**os.environ, **variables}), port, str(key))
        try:
            assert eventually(lambda: answers(f"{running.url}/livez") and all_serve(running), within=120)
            yield running
        finally:
            running.parent.terminate()
            running.parent.wait(60)


@pytest.fixture(scope="module")
def processes(services: Services, rated_template: Template) -> Iterator[Processes]:
    with started(services, rated_template) as running:
        yield running


def all_serve(running: Processes) -> bool:
    """Whether each process takes connections. Those that are opened here at once are spread over all that do."""
    with ExitStack() as stack:
        for _ in range(PROCESSES):
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=10))
        workers = running.workers()
        return len(workers) == PROCESSES and eventually(
            lambda: all(established(worker, running.port) for worker in workers), within=1
        )


def established(worker: psutil.Process, port: int) -> int:
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        for each in worker.net_connections("tcp")
    )


def test_connections_are_shared_and_counted_by_all_processes_together(processes: Processes) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(processes.client()) for _ in range(CONNECTIONS)]
        for stream, client in enumerate(clients):
            processes.post(client, stream)
        shares = [established(worker, processes.port) for worker in processes.workers()]
        assert sum(shares) == CONNECTIONS
        assert min(shares) >= CONNECTIONS // 5, shares
        assert processes.total("metering_events_accepted_total") == CONNECTIONS
        assert processes.total("metering_connections") >= CONNECTIONS


def test_a_process_that_is_killed_is_replaced_and_the_other_goes_on(processes: Processes) -> None:
    killed = processes.workers()[0]
    before = posted = int(processes.total("metering_events_accepted_total"))
    os.kill(killed.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while posted == before or len({each.pid for each in processes.workers()} - {killed.pid}) < PROCESSES:
        assert time.monotonic() < until
        with processes.client() as client:
            processes.post(client, 1_000 + posted)
        posted += 1
    assert processes.total("metering_events_accepted_total") == posted


def test_sigterm_ends_all_of_them_in_good_order(processes: Processes) -> None:
    workers = processes.workers()
    processes.parent.send_signal(signal.SIGTERM)
    assert processes.parent.wait(60) == 0
    assert not any(each.is_running() for each in workers)


def test_processes_end_with_the_one_that_started_them(services: Services, rated_template: Template) -> None:
    with started(services, rated_template) as running:
        workers = running.workers()
        running.parent.kill()
        running.parent.wait(60)
        assert eventually(lambda: not any(each.is_running() for each in workers))
        listen(host="127.0.0.1", port=running.port, backlog=1).close()
