"""The journal read back: each accepted event of a stream as it was sent, in the order of arrival, by pages."""

import gzip
import json
from datetime import UTC, datetime
from random import Random
from typing import Any

import psycopg
import pytest

from metering.access.scopes import Role
from metering.db.engine import transaction
from metering.events.read_stream_events import Position, read_stream_events
from metering.events.store import stream_hash
from tests.builders.posted import delivered, end, start
from tests.database import Database
from tests.running_api import Api


def read(api: Api, stream_id: str = "s", **parameters: Any) -> Any:
    answer = api.client.get(f"/v1/streams/acme/{stream_id}/events", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def read_all(api: Api, stream_id: str = "s", *, limit: int) -> list[Any]:
    events, cursor = [], None
    while True:
        page = read(api, stream_id, limit=limit, **({"cursor": cursor} if cursor else {}))
        assert len(page["data"]) <= limit
        events += page["data"]
        if (cursor := page["next_cursor"]) is None:
            return events


def test_all_that_arrived_is_there_in_order_with_duplicates_and_unknown_fields(api: Api) -> None:
    first = {**delivered(seq=2, tokens=40), "extension": {"kept": ["1", 2]}}
    api.post([delivered("other"), first, start("other")])
    api.client.post(
        "/v1/events", content=gzip.compress(json.dumps(start()).encode()), headers={"content-encoding": "gzip"}
    )
    lines = b"\n\n".join(
        json.dumps(each).encode() for each in (delivered(), {"bad": 1}, delivered(tokens=-1), end())
    )
    api.client.post("/v1/events", content=lines, headers={"content-type": "application/x-ndjson"})
    api.post([start()])
    page = read(api)
    assert [entry["event"] for entry in page["data"]] == [first, start(), delivered(), end(), start()]
    arrivals = [entry["received_at"] for entry in page["data"]]
    assert arrivals == sorted(arrivals)
    assert (page["complete"], page["next_cursor"]) == (True, None)
    assert datetime.fromisoformat(page["journal_from"]) <= datetime.now(UTC)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_leave_nothing_out_and_show_nothing_twice(shared_api: Api, limit: int) -> None:
    name = f"paged-{limit}"
    sent = [delivered(name, seq=seq) for seq in range(7)]
    shared_api.post(sent[:4])
    shared_api.post([delivered("another")])
    shared_api.post(sent[4:])
    assert [entry["event"] for entry in read_all(shared_api, name, limit=limit)] == sent


def test_a_call_looks_through_a_bounded_part_and_says_where_to_go_on(api: Api) -> None:
    for seq in range(9):
        api.post([delivered("rare" if seq % 4 == 0 else "frequent", seq=seq)])
    begin: Position | None = None
    pages: list[int] = []
    while True:
        with transaction(api.service.engine) as connection:
            page = read_stream_events(
                connection, customer_id="acme", stream_id="rare", begin=begin, limit=100, max_scanned=2
            )
        assert page is not None
        pages.append(len(page.events))
        if (begin := page.next_position) is None:
            break
    assert pages == [1, 0, 1, 0, 1]


def test_a_stream_that_shares_its_hash_with_another_shows_only_its_own_events(api: Api) -> None:
    one, other = _two_with_one_hash()
    api.post([delivered(one), delivered(other, seq=2)])
    assert [entry["event"] for entry in read(api, one)["data"]] == [delivered(one)]


def _two_with_one_hash() -> tuple[str, str]:
    random, seen = Random(7), dict[int, str]()
    for _ in range(1_000_000):
        name = random.randbytes(16).hex()
        if (hashed := stream_hash("acme", name)) in seen:
            return seen[hashed], name
        seen[hashed] = name
    raise AssertionError("no collision among a million")


def test_rows_from_before_there_were_hashes_are_found_too(api: Api, rated_database: Database) -> None:
    api.post([start(), end()])
    with psycopg.connect(rated_database.url) as connection:
        connection.execute("UPDATE journal SET stream_hashes = NULL")
    assert [entry["event"] for entry in read(api)["data"]] == [start(), end()]


def test_what_retention_took_is_said(api: Api, rated_database: Database) -> None:
    api.post([start()])
    with psycopg.connect(rated_database.url) as connection:
        connection.execute("UPDATE streams SET first_received_at = '2026-01-05T00:00:00Z'")
    assert read(api)["complete"] is False


@pytest.mark.parametrize("stream_id", ["a/events", "events", "a b", "ünï/ö%"])
def test_ids_that_look_like_paths_are_distinct(api: Api, stream_id: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in stream_id.encode())
    api.post([start(stream_id)])
    assert [entry["event"] for entry in read(api, encoded)["data"]] == [start(stream_id)]
    stream = api.client.get(f"/v1/streams/acme/{encoded}").json()
    assert stream["stream_id"] == stream_id


def test_only_who_may_read_the_customer_reads_its_events(api: Api) -> None:
    api.post([start()])
    assert api.client_with(Role.READ, "acme").get("/v1/streams/acme/s/events").status_code == 200
    assert api.client_with(Role.READ, "bolt").get("/v1/streams/acme/s/events").status_code == 403
    assert api.client_with(Role.INGEST).get("/v1/streams/acme/s/events").status_code == 403
    assert api.client.get("/v1/streams/acme/unknown/events").status_code == 404
    for cursor in ("nope", "WyJhIiwiYiIsImMiXQ"):
        answer = api.client.get("/v1/streams/acme/s/events", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-parameter")
