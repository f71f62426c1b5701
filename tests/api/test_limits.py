"""What requests have to pass: their key, the size of their body, their turn; and what the database must be."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx2
import psycopg
import pytest
from sqlalchemy import Engine, event

from metering.access.manage_access import limit_key
from metering.access.scopes import Role
from tests.builders.posted import delivered, start
from tests.database import Database
from tests.database_proxy import proxied
from tests.hammering import hammered
from tests.running_api import NOW, Api, http_client, run_server, signed_in
from tests.waiting import eventually

MIB = 1024 * 1024


def exchange(url: str, head: str, body: bytes = b"", *, announced: int | None = None) -> bytes:
    """Send a request whose body may be shorter than announced, and return the start of its answer."""
    host, port = url.removeprefix("http://").split(":")
    length = len(body) if announced is None else announced
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(f"{head}\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode() + body)
        return client.recv(65_536)


POSTS = ["POST /v1/events", "POST /v1/adjustments", "PUT /v1/customers/acme", "PUT /v1/rates/a/b"]


@pytest.mark.parametrize("request_line", POSTS)
def test_a_request_without_a_key_is_answered_before_its_body_arrives(shared_api: Api, request_line: str) -> None:
    answer = exchange(shared_api.url, f"{request_line} HTTP/1.1", announced=400 * MIB)
    assert answer.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("request_line", POSTS)
def test_a_body_that_is_announced_too_large_is_refused_before_it_arrives(
    shared_api: Api, request_line: str
) -> None:
    key = shared_api.client.headers["authorization"]
    head = f"{request_line} HTTP/1.1\r\nauthorization: {key}\r\ncontent-type: application/json"
    assert exchange(shared_api.url, head, announced=400 * MIB).startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_refused_once_it_is_too_large(shared_api: Api) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 16_384

    answer = shared_api.client.put("/v1/customers/acme", content=endless())
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


SIZE = 8 * MIB - 10
MEMBER = gzip.compress(b"")
BAD = {**delivered(), "data": {"stream_id": "s", "seq": 1, "output_tokens": -1}}
ZIPPED = {"content-encoding": "gzip"}


def ones() -> bytes:
    return b"[" + b"1," * (SIZE // 2 - 2) + b"1]"


def wide_object() -> bytes:
    return (b"{" + b",".join(b'"k%d":1' % number for number in range(600_000)) + b"}")[:SIZE]


# Made when they are needed: every process imports this module, and one posts a body.
HOSTILE: dict[str, tuple[Callable[[], bytes], dict[str, str]]] = {
    "ones": (ones, {}),
    "ones, compressed": (lambda: gzip.compress(ones()), ZIPPED),
    "a wide object": (wide_object, {}),
    "lines": (lambda: b"1\n" * (SIZE // 2), {"content-type": "application/x-ndjson"}),
    "members": (lambda: MEMBER * (SIZE // len(MEMBER)), ZIPPED),
    "bad events": (lambda: json.dumps([BAD] * 10_000).encode(), {}),
    "deep arrays": (lambda: b"[" + b",".join([b"[" * 400 + b"]" * 400] * 9_000) + b"]", {}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nobody_waits_for_a_hostile_body(shared_api: Api, name: str) -> None:
    make_body, headers = HOSTILE[name]
    body = make_body()
    worst, done = 0.0, threading.Event()

    def post() -> None:
        with shared_api.client_with(Role.INGEST) as client:
            statuses = {client.post("/v1/events", content=body, headers=headers).status_code for _ in range(3)}
        assert statuses <= {413, 422}
        done.set()

    hostile = threading.Thread(target=post)
    with http_client(shared_api.url) as other:
        alone = max(_livez_seconds(other) for _ in range(50))
        hostile.start()
        while not done.is_set() and hostile.is_alive():
            worst = max(worst, _livez_seconds(other))
    hostile.join()
    assert done.is_set()
    # They took seconds: 1.6 s for a wide object, 32 s for the members. A busy machine lets one wait by itself.
    assert worst < 0.5 + 5 * alone


def _livez_seconds(client: httpx2.Client) -> float:
    began = time.monotonic()
    assert client.get("/livez").status_code == 200
    return time.monotonic() - began


def test_an_id_is_repeated_cut_off(shared_api: Api) -> None:
    answer = shared_api.post([{**start(), "id": "x" * 100_000, "time": 7}])
    assert answer.status_code == 422
    assert len(answer.content) < 2_000
    long = shared_api.post([{**start(), "id": "x" * 300_000}])
    assert long.json()["rejected"][0]["code"] == "too-large"


def test_a_key_over_its_limit_gets_429_and_others_do_not(api: Api) -> None:
    noisy, quiet = api.client_with(Role.INGEST), api.client_with(Role.INGEST)
    key_id = noisy.headers["authorization"].split("_")[1]
    changes = {"events_per_second": 10}
    limit_key(engine=api.service.engine, key_id=key_id, changes=changes, by="a test", now=NOW)
    with noisy, quiet:
        assert noisy.post("/v1/events", json=[delivered(seq=seq) for seq in range(100)]).status_code == 200
        refused = noisy.post("/v1/events", json=[delivered()])
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-requests")
        assert 5 <= int(refused.headers["retry-after"]) <= 10
        assert quiet.post("/v1/events", json=[delivered()]).status_code == 200


def test_requests_a_second_are_limited_for_every_key_of_the_deployment(rated_database: Database) -> None:
    with rated_database.service(key_requests_per_second=5) as service, signed_in(service) as api:
        statuses = [api.client.get("/v1/rates?limit=1").status_code for _ in range(20)]
        assert statuses[:5] == [200] * 5
        assert 429 in statuses


def test_unknown_keys_cost_no_query_each(api: Api) -> None:
    queries: list[str] = []

    def note(*given: Any) -> None:
        if "secret_hash" in given[2]:
            queries.append(given[2])

    event.listen(Engine, "before_cursor_execute", note)

    def guess() -> None:
        with http_client(api.url) as client:
            for number in range(10):
                answer = client.get("/v1/rates", headers={"authorization": f"Bearer mk_guess{number}_secret"})
                assert answer.status_code == 401

    threads = [threading.Thread(target=guess) for _ in range(10)]
    for thread in threads:
        thread.start()
    assert api.client.get("/v1/rates?limit=1").status_code == 200
    for thread in threads:
        thread.join()
    event.remove(Engine, "before_cursor_execute", note)
    assert 0 < len(queries) < 60  # for 100 guesses


def test_reads_over_their_share_are_refused_and_keys_of_others_are_served(rated_database: Database) -> None:
    settings = {"concurrent_reads": 2, "read_wait": timedelta(seconds=1)}
    with (
        rated_database.service(**settings) as service,
        signed_in(service) as api,
        api.client_with(Role.READ) as other,
        hammered(api, "/v1/rates?limit=1000", 60) as answers,
    ):
        assert eventually(lambda: len(answers) > 100)
        assert other.get("/v1/rates?limit=1").status_code == 200
        assert api.post([start()]).status_code == 200
        assert other.get("/livez").status_code == 200
    statuses = {answer.status_code for answer in answers}
    assert 200 in statuses
    assert statuses <= {200, 429, 503}
    assert len(statuses) > 1
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code != 200)


def test_a_client_that_leaves_takes_its_query_with_it(rated_database: Database) -> None:
    with (
        rated_database.service() as service,
        signed_in(service) as api,
        psycopg.connect(rated_database.url) as holder,
    ):
        # The query waits for this lock, as it might wait for a large table.
        holder.execute("LOCK TABLE rate_cards IN ACCESS EXCLUSIVE MODE")
        key = api.client.headers["authorization"]
        host, port = api.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"GET /v1/rates HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n\r\n".encode())
            assert eventually(lambda: waiting_queries(rated_database) == 1)
        assert eventually(lambda: waiting_queries(rated_database) == 0, within=30)


def waiting_queries(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_query_that_takes_too_long_is_ended_and_said(rated_database: Database) -> None:
    with (
        rated_database.service(read_timeout=timedelta(seconds=1), for_api=True) as service,
        signed_in(service) as api,
        psycopg.connect(rated_database.url) as holder,
    ):
        holder.execute("LOCK TABLE rate_cards IN ACCESS EXCLUSIVE MODE")
        answer = api.client.get("/v1/rates")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/query-timeout")


def test_without_a_key_nobody_learns_of_the_inside(database: Database) -> None:
    with (
        proxied(database) as (proxy, through),
        through.service(for_api=True) as service,
        run_server(service) as url,
        http_client(url) as client,
    ):
        assert client.get("/readyz").status_code == 200
        proxy.silence(new_ones=True)
        assert eventually(lambda: client.get("/readyz").status_code == 503)
        said = client.get("/readyz").text + client.get("/v1/rates", headers={"authorization": "x"}).text
        assert client.get("/livez").status_code == 200
        for inner in ("127.0.0.1", str(proxy.port), "postgres", "psycopg", "SQL", "timeout expired"):
            assert inner not in said


def test_money_is_in_the_metrics_for_the_token_only(rated_database: Database) -> None:
    with rated_database.service() as service, signed_in(service) as api:
        open_to_all = api.client.get("/metrics")
        assert open_to_all.status_code == 200
        assert "_cents" not in open_to_all.text
    with rated_database.service(metrics_token="t0k3n") as service, signed_in(service) as api:
        assert api.client.get("/metrics").status_code == 401
        assert "metering_push_cents" in api.client.get("/metrics", headers={"authorization": "Bearer t0k3n"}).text


def test_browsers_may_neither_guess_a_type_nor_frame_an_answer(shared_api: Api) -> None:
    for path in ("/docs", "/openapi.json", "/v1/rates", "/livez", "/metrics", "/nowhere", "/dashboard/sign-in"):
        headers = shared_api.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path


def test_while_postgresql_could_lose_commits_nothing_is_accepted(rated_database: Database) -> None:
    name = rated_database.url.partition("?")[0].rpartition("/")[2]

    def turn(sql: str) -> None:
        with psycopg.connect(rated_database.url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} {sql} synchronous_commit{' = off' if sql == 'SET' else ''}")  # type: ignore[arg-type]

    with rated_database.service() as service, signed_in(service) as api:
        assert api.post([start()]).status_code == 200
        turn("SET")
        assert eventually(lambda: api.client.get("/readyz").status_code == 503)
        refused = api.post([start()])
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store-unsafe")
        assert api.client.get("/v1/rates?limit=1").status_code == 200
        turn("RESET")
        assert eventually(lambda: api.client.get("/readyz").status_code == 200)
        assert api.post([start()]).status_code == 200
