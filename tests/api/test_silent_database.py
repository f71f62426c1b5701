"""PostgreSQL goes silent, or is not there at the start: the API comes back by itself, soon after it is."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psycopg
import pytest

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from tests.builders.posted import start
from tests.database import Database
from tests.database_proxy import DatabaseProxy, proxied
from tests.running_api import NOW, Api, http_client, run_server, signed_in
from tests.waiting import eventually

pytestmark = pytest.mark.long

# How long everything may take to work again.
SOON = 15


@contextmanager
def through_proxy(database: Database) -> Iterator[tuple[DatabaseProxy, Api]]:
    with (
        proxied(database) as (proxy, through),
        through.service(for_api=True) as service,
        signed_in(service) as api,
    ):
        yield proxy, api


def serves(api: Api) -> bool:
    """Whether it reads, stores and knows keys."""
    with http_client(api.url, headers=dict(api.client.headers)) as client:
        return (
            client.get("/v1/rates?limit=1").status_code == 200
            and client.post("/v1/events", json=[start()]).status_code == 200
            and client.get("/readyz").status_code == 200
        )


def seconds_until_it_serves(api: Api) -> float:
    began = time.monotonic()
    assert eventually(lambda: serves(api), ignoring=(httpx2.HTTPError,))
    return time.monotonic() - began


def test_reads_that_wait_on_silent_connections_do_not_keep_the_service_down(rated_database: Database) -> None:
    with through_proxy(rated_database) as (proxy, api), psycopg.connect(rated_database.url) as holder:
        new_key = api.client_with(Role.READ)
        assert serves(api)
        # More reads than there are turns, all in the middle of a query.
        holder.execute("LOCK TABLE rate_cards IN ACCESS EXCLUSIVE MODE")
        readers = [threading.Thread(target=lambda: api.client.get("/v1/rates")) for _ in range(20)]
        for reader in readers:
            reader.start()
        assert eventually(lambda: waiting(holder) == api.service.settings.concurrent_reads // 2)
        proxy.silence(new_ones=False)
        holder.rollback()
        assert seconds_until_it_serves(api) < SOON
        with new_key:
            assert new_key.get("/v1/rates?limit=1").status_code == 200
        for reader in readers:
            reader.join()


def waiting(holder: psycopg.Connection) -> int:
    row = holder.execute(
        "SELECT count(*) FROM pg_locks WHERE relation = 'rate_cards'::regclass AND NOT granted"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_after_a_time_without_any_answer_the_service_is_back_at_once(rated_database: Database) -> None:
    with through_proxy(rated_database) as (proxy, api):
        assert serves(api)
        proxy.silence(new_ones=True)
        assert eventually(lambda: api.client.get("/readyz").status_code == 503)
        refused = api.post([start()])
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert api.client.get("/livez").status_code == 200
        proxy.speak()
        assert seconds_until_it_serves(api) < SOON


def test_it_starts_without_a_database_and_serves_once_there_is_one(rated_database: Database) -> None:
    with proxied(rated_database) as (proxy, through), through.service(for_api=True) as service:
        key = create_key(engine=service.engine, role=Role.ADMIN, name="t", customer_id=None, now=NOW)
        proxy.silence(new_ones=True)
        headers = {"authorization": f"Bearer {key}"}
        with run_server(service) as url, http_client(url, headers=headers) as client:
            api = Api(url, client, service)
            assert api.client.get("/livez").status_code == 200
            for answer in (api.post([start()]), api.client.get("/v1/rates"), api.client.get("/dashboard/")):
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
            proxy.speak()
            assert seconds_until_it_serves(api) < SOON
