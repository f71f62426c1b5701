"""Clients that read nothing, or hold connections: they are dropped quietly, and nobody else notices."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from prometheus_client.registry import REGISTRY

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from tests.database import Database
from tests.running_api import NOW, Api, http_client, run_server, signed_in
from tests.waiting import eventually


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("metering_connections_dropped_total", {"reason": reason}) or 0.0


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    client = socket.socket()
    # What the client's side buffers would hide that it does not read.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect((host, int(port)))
    return client


@contextmanager
def several(url: str, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            clients.append(connect(url))
            with_sent = clients[-1]
            try:
                with_sent.sendall(sent)
            except ConnectionError:
                continue
        yield clients
    finally:
        for client in clients:
            client.close()


def is_closed(client: socket.socket) -> bool:
    """Whether the other side has closed it. What it has sent before is read."""
    client.settimeout(0.2)
    try:
        while client.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def pipelined(api: Api, path: str, times: int) -> bytes:
    key = api.client.headers["authorization"]
    return f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n\r\n".encode() * times


@pytest.fixture
def impatient(rated_database: Database) -> Iterator[Api]:
    """An API that gives clients a second to read."""
    settings = {"send_timeout": timedelta(seconds=1), "max_connections_per_address": 40}
    with rated_database.service(**settings) as service, signed_in(service) as running:
        yield running


def unsent_by_kernel(client: socket.socket) -> int:
    """The bytes that the kernel holds for the server, and has not sent to this client."""
    end = f":{client.getpeername()[1]:04X}", f":{client.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if local.endswith(end[0]) and remote.endswith(end[1]):
            return int(queues.partition(":")[0], 16)
    raise AssertionError("the connection is gone")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of connections")
def test_the_kernel_takes_little_of_an_answer_that_is_not_read(api: Api) -> None:
    asked = b"GET /dashboard/static/vendor/tabler-1.6.1.min.css HTTP/1.1\r\nhost: x\r\n\r\n"
    with several(api.url, 1, asked * 8) as (client,):
        assert client.recv(1)
        held = []
        for _ in range(20):
            time.sleep(0.05)
            held.append(unsent_by_kernel(client))
    # Without a bound it takes all eight files, five megabytes, as fast as it can copy them.
    assert max(held) < 300_000


def test_clients_that_read_nothing_hold_no_database_connection(api: Api) -> None:
    pool = api.service.engine.pool
    # More of them than the pool has connections.
    with several(api.url, 12, pipelined(api, "/v1/rates?limit=1000", 12)) as clients:
        for client in clients:
            assert client.recv(1)
        assert eventually(lambda: pool.checkedout() == 0)  # type: ignore[attr-defined]
        # Their requests may still wait for a turn.
        assert eventually(lambda: api.client.get("/v1/rates?limit=1").status_code == 200)


def test_a_client_that_reads_nothing_is_dropped_quietly(impatient: Api, caplog: pytest.LogCaptureFixture) -> None:
    before = dropped("stalled")
    with (
        caplog.at_level(logging.INFO),
        several(impatient.url, 4, pipelined(impatient, "/v1/rates?limit=1000", 12)),
    ):
        assert eventually(lambda: dropped("stalled") - before >= 4)
        assert impatient.client.get("/v1/rates?limit=1").status_code == 200
    told = [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
    assert told == []


def test_a_client_that_reads_slowly_but_steadily_gets_its_whole_answer(impatient: Api) -> None:
    whole = len(impatient.client.get("/v1/rates?limit=1000").content)
    assert whole > 200_000
    with several(impatient.url, 1, pipelined(impatient, "/v1/rates?limit=1000", 1)) as (client,):
        received, began = 0, time.monotonic()
        while received < whole:
            chunk = client.recv(whole // 60)
            assert chunk, f"dropped after {received} of {whole} bytes"
            received += len(chunk)
            time.sleep(0.04)
        assert time.monotonic() - began > 2


def test_idle_connections_make_room_for_new_ones(impatient: Api) -> None:
    before = dropped("evicted")
    with several(impatient.url, 60) as idle:
        with http_client(impatient.url) as fresh:
            assert fresh.get("/livez").status_code == 200
        # The fixture's own client may be among the 40 that one address may have.
        assert dropped("evicted") - before >= 20
        assert is_closed(idle[0])
        assert not is_closed(idle[-1])


def test_clients_that_read_nothing_make_room_for_new_ones(rated_database: Database) -> None:
    settings = {"send_timeout": timedelta(seconds=60), "max_connections": 5}

    def answers(url: str) -> bool:
        with http_client(url) as fresh:
            return fresh.get("/livez").status_code == 200

    with (
        rated_database.service(**settings) as service,
        signed_in(service) as api,
        several(api.url, 5, pipelined(api, "/v1/rates?limit=1000", 12)),
    ):
        assert eventually(lambda: answers(api.url), ignoring=(httpx2.HTTPError,))


def test_a_head_without_an_end_is_cut_off(database: Database) -> None:
    with (
        database.service() as service,
        run_server(service) as url,
        several(url, 1, b"GET /livez HTTP/1.1\r\nhost: x\r\nx: ") as (client,),
    ):
        with pytest.raises(ConnectionError):
            send_for_ever(client)
        with several(url, 1, b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n") as (other,):
            assert other.recv(1000).startswith(b"HTTP/1.1 400")


def send_for_ever(client: socket.socket) -> None:
    for _ in range(1000):
        client.sendall(b"x" * 65_536)
        time.sleep(0.01)


def test_an_address_in_a_header_is_believed_from_proxies_only_and_a_right_key_always_passes(
    database: Database,
) -> None:
    seen: dict[str, list[int]] = {}
    for proxies in ("", "127.0.0.0/8"):
        with database.service(trusted_proxies=proxies) as service, run_server(service) as url:
            with http_client(url) as client:
                answers = [
                    client.post(
                        "/dashboard/sign-in",
                        data={"key": "mk_a_b"},
                        headers={"x-forwarded-for": f"192.0.2.{number}"},
                    )
                    for number in range(14)
                ]
            seen[proxies] = [answer.status_code for answer in answers]
            right = create_key(engine=service.engine, role=Role.READ, name="t", customer_id=None, now=NOW)
            with http_client(url) as client:
                assert client.post("/dashboard/sign-in", data={"key": str(right)}).status_code == 303
    assert seen[""].count(429) == 4
    assert seen["127.0.0.0/8"].count(429) == 0
