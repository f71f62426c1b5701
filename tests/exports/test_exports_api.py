"""Exports over HTTP: for whom, of what, whole or visibly not, and nothing held for a client that has gone."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import psycopg
import pytest

from metering.access.scopes import Role
from metering.exports import download as downloads
from metering.exports.download import EXPORTS
from metering.exports.export_month import ExportKind
from metering.server.bootstrap import Service
from tests.database import Database
from tests.exports.files import content, read_csv, read_parquet
from tests.exports.scene import MANY, Scene, more_charges
from tests.running_api import Api, signed_in
from tests.waiting import eventually

HELD = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
      AND backend_type = 'client backend' AND query LIKE 'COPY%'
"""


@pytest.fixture
def api(scene: Scene) -> Iterator[Api]:
    with signed_in(scene.service) as running:
        yield running


@pytest.fixture(scope="module")
def shared_api(shared_scene: Scene) -> Iterator[Api]:
    with signed_in(shared_scene.service) as running:
        yield running


def get(api: Api, file: str, **parameters: str) -> httpx2.Response:
    return api.client.get(f"/v1/exports/{file}", params={"period": "2026-11", **parameters})


@pytest.mark.parametrize("kind", list(ExportKind))
def test_a_download_is_the_file_with_its_name_and_type(
    shared_api: Api, shared_scene: Scene, kind: ExportKind
) -> None:
    for format, media_type in (
        ("csv", "text/csv; charset=utf-8; header=present"),
        ("parquet", "application/vnd.apache.parquet"),
    ):
        answer = get(shared_api, f"{kind}.{format}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        assert answer.headers["content-disposition"] == f'attachment; filename="{kind}-2026-11.{format}"'
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        if format == "csv" and kind is not ExportKind.FOCUS:
            assert answer.content == content(shared_scene.service.engine, kind, format)
        if format == "parquet":
            assert len(read_parquet(answer.content)) == len(read_csv(get(shared_api, f"{kind}.csv").content)) > 0
    named = get(shared_api, f"{kind}.csv", customer_id="acme").headers["content-disposition"]
    assert named == f'attachment; filename="{kind}-2026-11-acme.csv"'
    hostile = get(shared_api, f"{kind}.csv", customer_id="=1+1").headers["content-disposition"]
    assert hostile == f'attachment; filename="{kind}-2026-11-_1_1.csv"'


def test_excels_file_is_asked_for_by_a_parameter(shared_api: Api) -> None:
    answer = get(shared_api, "charges.csv", excel="true")
    assert answer.content.startswith(b"\xef\xbb\xbf")
    assert answer.headers["content-disposition"] == 'attachment; filename="charges-2026-11-excel.csv"'
    refused = get(shared_api, "charges.parquet", excel="true")
    assert (refused.status_code, "only for csv" in refused.json()["detail"]) == (422, True)


def test_focus_names_the_deployments_issuer(shared_api: Api) -> None:
    names = ("InvoiceIssuerName", "ProviderName", "ServiceProviderName")
    assert {row[name] for row in read_csv(get(shared_api, "focus.csv").content) for name in names} == {
        "LLM gateway"
    }


@pytest.mark.parametrize("kind", list(ExportKind))
def test_a_bound_key_sees_its_customer_only(shared_api: Api, kind: ExportKind) -> None:
    name = "BillingAccountId" if kind is ExportKind.FOCUS else "customer_id"
    for format, read in (("csv", read_csv), ("parquet", read_parquet)):
        with shared_api.client_with(Role.READ, "plain") as bound:
            path, of = f"/v1/exports/{kind}.{format}", {"period": "2026-11"}
            rows: list[Any] = read(bound.get(path, params=of).content)
            assert {row[name] for row in rows} == {"plain"}
            assert bound.get(path, params={**of, "customer_id": "plain"}).status_code == 200
            for other in ("acme", "nobody", "PLAIN", "plain "):
                refused = bound.get(path, params={**of, "customer_id": other})
                assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")


def test_a_key_is_needed_that_may_read(shared_api: Api) -> None:
    path = "/v1/exports/charges.csv?period=2026-11"
    assert httpx2.get(f"{shared_api.url}{path}", timeout=60).status_code == 401
    with shared_api.client_with(Role.INGEST) as ingest:
        assert ingest.get(path).status_code == 403
    with shared_api.client_with(Role.READ) as reader:
        assert reader.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("charges.csv", 422, "period: Field required"),
        ("charges.csv?period=October", 422, "period: expected a month such as 2026-10, got 'October'"),
        ("charges.csv?period=2026-13", 422, "period: expected a month"),
        ("charges.csv?period=2026-11-01", 422, "period: expected a month"),
        ("charges.xlsx?period=2026-11", 422, "format: Input should be 'csv' or 'parquet'"),
        ("customers.csv?period=2026-11", 422, "kind: Input should be 'charges', 'invoice-lines' or 'focus'"),
        ("charges.csv?period=2026-11&customer_id=nobody", 404, "there is no customer 'nobody'"),
        ("charges.csv?period=2026-11&customer_id=a%00b", 422, "NUL"),
    ],
)
def test_what_is_wrong_is_a_problem_that_names_it(shared_api: Api, path: str, status: int, says: str) -> None:
    failed = EXPORTS.labels("charges", "csv", "failed")
    before = failed._value.get()
    answer = shared_api.client.get(f"/v1/exports/{path}")
    assert failed._value.get() == before, "nobody is called for a client's mistake"
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_an_empty_month_is_a_header(shared_api: Api) -> None:
    answer = get(shared_api, "charges.csv", period="2031-01")
    assert answer.status_code == 200
    assert answer.text.startswith("row_kind,period,customer_id,")
    assert answer.text.count("\r\n") == 1


def test_an_export_that_fails_in_the_middle_does_not_look_whole(api: Api, scene: Scene) -> None:
    failed = EXPORTS.labels("charges", "csv", "failed")
    before = failed._value.get()
    more_charges(scene.database, "zz-many")
    assert scene.close("2026-12", force_reason="for the test") == {}
    with psycopg.connect(scene.database.url) as connection:
        changed = "exact_usd_cents = exact_usd_cents + 1, remainder_usd_cents = remainder_usd_cents + 1"
        connection.execute(f"UPDATE invoices SET {changed} WHERE customer_id = 'zz-many'".encode())
    received: list[bytes] = []
    with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
        receive(api, received)
    assert b"".join(received).count(b"zz-many") > MANY / 2
    assert failed._value.get() == before + 1
    # The process goes on, and another one is whole.
    assert get(api, "charges.csv").status_code == 200


def test_a_client_that_goes_away_is_not_waited_for(api: Api, scene: Scene) -> None:
    left = EXPORTS.labels("charges", "csv", "left")
    before = left._value.get()
    more_charges(scene.database, "zz-many")
    with slow_client(api) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert eventually(lambda: held(scene.database) == 1)
    assert eventually(lambda: held(scene.database) == 0)
    assert eventually(lambda: left._value.get() == before + 1)
    assert get(api, "charges.csv", period="2026-12").status_code == 200


def test_an_export_that_takes_too_long_is_ended_and_looks_so(scene: Scene) -> None:
    timed_out = EXPORTS.labels("charges", "csv", "timed_out")
    before = timed_out._value.get()
    more_charges(scene.database, "zz-many")
    short = with_timeout(scene.service, timedelta(seconds=2))
    with signed_in(short) as api, slow_client(api) as client:
        assert eventually(lambda: timed_out._value.get() == before + 1)
        assert eventually(lambda: held(scene.database) == 0)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200 ")
    assert not received.endswith(b"\r\n0\r\n\r\n")


def test_a_client_that_takes_nothing_is_given_up(api: Api, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled = EXPORTS.labels("charges", "csv", "stalled")
    before = stalled._value.get()
    monkeypatch.setattr(downloads, "STALL_SECONDS", 0.5)
    more_charges(scene.database, "zz-many")
    with slow_client(api):
        assert eventually(lambda: stalled._value.get() == before + 1)
        assert eventually(lambda: held(scene.database) == 0)


def test_exports_beyond_the_limit_of_a_process_are_answered_with_retry_after(api: Api, scene: Scene) -> None:
    more_charges(scene.database, "zz-many")
    others = [slow_client(api) for _ in range(3)]
    assert eventually(lambda: held(scene.database) == 3)
    refused = get(api, "charges.csv")
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/too-many-exports")
    assert refused.headers["retry-after"] == "30"
    # Other requests have connections left.
    assert api.client.get("/v1/customers").status_code == 200
    for other in others:
        other.close()
    assert eventually(lambda: get(api, "charges.csv").status_code == 200)
    assert eventually(lambda: held(scene.database) == 0)


def test_http_1_0_which_cannot_show_a_broken_file_is_refused(shared_api: Api) -> None:
    with connected(shared_api) as client:
        client.sendall(request_line(shared_api, "charges.csv?period=2026-11", version="1.0"))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert b"proxy_http_version 1.1" in answer


def receive(api: Api, received: list[bytes]) -> None:
    """Read December's charges as they come."""
    with api.client.stream("GET", "/v1/exports/charges.csv", params={"period": "2026-12"}) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_bytes():
            received.append(chunk)


def held(database: Database) -> int:
    """Exports whose snapshots are open."""
    with psycopg.connect(database.url) as connection:
        row = connection.execute(HELD.encode()).fetchone()
        assert row is not None
        return int(row[0])


def with_timeout(service: Service, timeout: timedelta) -> Service:
    return replace(service, settings=service.settings.model_copy(update={"export_timeout": timeout}))


def connected(api: Api) -> socket.socket:
    """A client with little room for what it has not read."""
    host, _, port = api.url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    client.settimeout(20)
    client.connect((host, int(port)))
    return client


def request_line(api: Api, file: str, *, version: str = "1.1") -> bytes:
    key = api.client.headers["authorization"]
    return f"GET /v1/exports/{file} HTTP/{version}\r\nhost: test\r\nauthorization: {key}\r\n\r\n".encode()


def slow_client(api: Api) -> socket.socket:
    """A client that asks for an export and reads none of it."""
    client = connected(api)
    client.sendall(request_line(api, "charges.csv?period=2026-12"))
    return client
