"""One key's flood does not delay another's events: a ratio within one run, on an API process of its own."""

import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.db.schema import ensure_journal_partitions
from metering.server.bootstrap import Service
from metering.server.embedded.data_dir import Services
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.server.up import answers, free_port
from tests.builders.posted import delivered
from tests.database import Template, clone
from tests.hammering import in_threads
from tests.running_api import NOW

pytestmark = pytest.mark.long

# The median, because others use this machine as well.
MOST_SLOWDOWN = 3.0
PAUSE = 0.01


class Process:
    """A running `metering api`."""

    def __init__(self, port: int, service: Service) -> None:
        self.port, self._service = port, service

    def key(self, role: Role) -> str:
        return str(create_key(engine=self._service.engine, role=role, name="t", customer_id=None, now=NOW))


@pytest.fixture(scope="module")
def process(services: Services, rated_template: Template) -> Iterator[Process]:
    port = free_port()
    with (
        clone(services, rated_template) as database,
        database.service() as service,
        Supervisor(quiet=True) as supervisor,
    ):
        ensure_journal_partitions(service.engine, now=datetime.now(UTC))
        spec = ChildSpec(
            name="api",
            argv=[sys.executable, "-m", "metering", "api", "--port", str(port)],
            env={"METERING_DATABASE_URL": database.url, "METERING_REDIS_URL": database.redis_url},
            ready=lambda: answers(f"http://127.0.0.1:{port}/livez"),
            ready_timeout=120,
        )
        supervisor.start([spec])
        yield Process(port, service)
        supervisor.stop()


def request(key: str, body: bytes | None = None, path: str = "/v1/events") -> bytes:
    method = "GET" if body is None else "POST"
    body = body or b""
    head = [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {key}", f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode() + body


class Client:
    """One connection, which leaves most of the machine to the server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")

    def send(self, sent: bytes) -> int:
        self._socket.sendall(sent)
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self._file.read(length)
        return status


@contextmanager
def flood(process: Process, sent: bytes, connections: int) -> Iterator[set[int]]:
    statuses: set[int] = set()

    def send(stop: threading.Event) -> None:
        client = Client(process.port)
        while not stop.is_set():
            statuses.add(client.send(sent))

    with in_threads(send, connections):
        yield statuses


def median_seconds(process: Process, key: str, *, seconds: float) -> float:
    client, sent, took = Client(process.port), request(key, json.dumps([delivered()]).encode()), []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        assert client.send(sent) == 200
        took.append(time.monotonic() - began)
        time.sleep(PAUSE)
    return statistics.median(took)


def bodies() -> dict[str, bytes]:
    good = delivered()
    bad = {**good, "data": {**good["data"], "output_tokens": -1}}
    return {
        "large batches": json.dumps([{**good, "id": f"e{number}"} for number in range(8_000)]).encode(),
        "bad events": json.dumps([bad] * 10_000).encode(),
    }


@pytest.mark.parametrize("noise", ["large batches", "bad events", "unknown keys", "reads"])
def test_a_noisy_client_delays_a_quiet_one_little(process: Process, noise: str) -> None:
    quiet = process.key(Role.INGEST)
    if noise == "unknown keys":
        sent, connections = request("mk_unknown_key", path="/v1/rates"), 20
    elif noise == "reads":
        sent, connections = request(process.key(Role.READ), path="/v1/rates?limit=1000"), 60
    else:
        sent, connections = request(process.key(Role.INGEST), bodies()[noise]), 6
    median_seconds(process, quiet, seconds=1)
    alone = median_seconds(process, quiet, seconds=2)
    with flood(process, sent, connections) as statuses:
        beside = median_seconds(process, quiet, seconds=4)
    alone = max(alone, median_seconds(process, quiet, seconds=2))
    assert not {status for status in statuses if status >= 500} - {503}
    assert beside < alone * MOST_SLOWDOWN


# More than an API process may have in all, and fewer than an address may have.
ADDRESSES, EACH = 6, 350
HEAD = b"GET /v1/rates HTTP/1.1\r\nhost: x\r\nx: "
READS_NOTHING = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 12
# The machine does other things as well.
MOST_ANSWER_SECONDS = 40.0


def connect(address: str, port: int, sent: bytes) -> socket.socket | None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(5)
    try:
        client.bind((address, 0))
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        client.send(sent)
    except OSError:
        client.close()
        return None
    return client


def hold(address: str, port: int, sent: bytes, drip: bool, stop: threading.Event, open_now: list[int]) -> None:
    """Keep this many connections open, until told to stop."""
    held: list[socket.socket] = []
    number = len(open_now)
    open_now.append(0)
    while not stop.wait(0.1):
        while len(held) < EACH and not stop.is_set():
            client = connect(address, port, sent)
            if client is None:
                break
            held.append(client)
        for client in held.copy():
            try:
                if drip:
                    client.send(b"a")
                if sent is not READS_NOTHING and client.recv(1000) == b"":
                    raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                client.close()
                held.remove(client)
        open_now[number] = len(held)
    for client in held:
        client.close()


@contextmanager
def attack(port: int) -> Iterator[list[int]]:
    stop, open_now = threading.Event(), []
    kinds = [(b"", False), (HEAD, True), (READS_NOTHING, False)] * 2
    threads = [
        threading.Thread(target=hold, args=(f"127.0.0.{number + 2}", port, *kind, stop, open_now))
        for number, kind in enumerate(kinds)
    ]
    for thread in threads:
        thread.start()
    try:
        yield open_now
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def worst_of(process: Process, sent: bytes, *, kept: bool, seconds: float) -> tuple[float, int]:
    """The longest answer, and how often a connection had to be made again."""
    client: Client | None = None
    worst, again = 0.0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        while True:
            with suppress(OSError, IndexError):
                client = client if client is not None and kept else Client(process.port)
                assert client.send(sent) == 200
                break
            client = None
            again += 1
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.1)
    return worst, again


def test_a_gateway_is_answered_while_thousands_of_connections_are_open(process: Process) -> None:
    sent = request(process.key(Role.INGEST), json.dumps([delivered()]).encode())
    with attack(process.port) as open_now:
        time.sleep(3)
        kept, again = worst_of(process, sent, kept=True, seconds=5)
        fresh, refused = worst_of(process, sent, kept=False, seconds=5)
        print(
            f"{sum(open_now)} open; kept: worst {kept:.2f} s, {again} again; fresh: {fresh:.2f} s, {refused} again"
        )
        assert sum(open_now) > 1_500
    assert max(kept, fresh) < MOST_ANSWER_SECONDS
