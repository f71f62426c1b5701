"""POST /v1/events: every form and encoding, clear answers to bad input, each accepted request in the journal."""

import gzip
import json
import zlib
from typing import Any

import msgspec
import psycopg
import pytest
import zstandard

from metering.access.scopes import Role
from metering.events.wire.bodies import unpack_body
from tests.builders.posted import delivered, end, event, start
from tests.database import Database
from tests.running_api import Api


def problem(response: Any) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"]


FORMS = {
    "application/json": lambda events: json.dumps(events).encode(),
    "application/cloudevents-batch+json; charset=utf-8": lambda events: json.dumps(events).encode(),
    "application/x-ndjson": lambda events: b"\n".join(json.dumps(e).encode() for e in events) + b"\n\n",
}
ENCODINGS = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": lambda body: zlib.compress(body, wbits=-15),
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("content_type", FORMS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_form_and_encoding_says_the_same(api: Api, content_type: str, encoding: str) -> None:
    body = ENCODINGS[encoding](FORMS[content_type]([start(), delivered(), end()]))
    headers = {"content-type": content_type, "content-encoding": encoding}
    answer = api.client.post("/v1/events", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 3, "rejected": []})
    api.finalize()
    assert api.client.get("/v1/streams/acme/s").json()["cost_usd_cents"] == "0.4985"


@pytest.mark.parametrize("content_type", ["application/cloudevents+json", "application/json", ""])
def test_a_single_event_needs_no_array(api: Api, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = api.client.post("/v1/events", content=json.dumps(start()), headers=headers)
    assert answer.json() == {"accepted": 1, "rejected": []}


def test_a_bad_event_is_named_and_its_neighbours_count(api: Api) -> None:
    bad = delivered(tokens=-4)
    answer = api.post([start(), bad, end()])
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    assert answer.json()["rejected"] == [
        {
            "index": 1,
            "id": bad["id"],
            "code": "invalid-field",
            "detail": "data.output_tokens: expected an integer >= 0, got -4",
        }
    ]


def data(**changes: Any) -> dict[str, Any]:
    return event("token-delivered", {"stream_id": "s", "seq": 1, "output_tokens": 1, **changes})


BAD_EVENTS: list[tuple[Any, str, str]] = [
    (data(seq="1"), "invalid-field", "data.seq: expected an integer"),
    (data(seq=1.5), "invalid-field", "data.seq: expected an integer"),
    (data(seq=True), "invalid-field", "data.seq: expected an integer"),
    (data(output_tokens=2**53), "invalid-field", "data.output_tokens: expected an integer <= 9007199254740991"),
    (data(output_tokens=10**30), "invalid-field", "data.output_tokens"),
    (data(stream_id=""), "invalid-field", "data.stream_id"),
    (data(stream_id="x" * 129), "invalid-field", "data.stream_id"),
    ({**data(stream_id="a\0b"), "id": "x"}, "invalid-field", "data.stream_id: expected text without NUL"),
    (event("token-delivered", {"stream_id": "s", "seq": 1}), "missing-field", "data.output_tokens: required"),
    (event("token-gone", {"stream_id": "s"}), "unknown-type", "type: expected stream-start"),
    (event("stream-end", {"stream_id": "s", "outcome": "abandoned"}), "invalid-field", "data.outcome: expected"),
    ({**start(), "specversion": "0.3"}, "invalid-field", 'specversion: expected "1.0"'),
    ({**start(), "time": "2026-11-23T15:00:00"}, "invalid-field", "time: expected an RFC 3339 time"),
    ({**start(), "time": "0001-01-01T00:00:00+14:00"}, "invalid-field", "time: expected a year"),
    ({**start(), "subject": None}, "invalid-field", "subject: expected a string"),
    (start(tags={str(n): "x" for n in range(17)}), "invalid-field", "data.tags"),
    ({}, "missing-field", "type, specversion, source, id, subject, time, data: required"),
    (
        {"type": "stream-start", "id": "x", "data": {"stream_id": "s"}},
        "missing-field",
        "specversion, source, subject, time, data.provider, data.model: required",
    ),
    (
        {"type": "token-delivered", "source": "g", "data": {}},
        "missing-field",
        "specversion, id, subject, time, data.stream_id, data.seq, data.output_tokens: required",
    ),
    (event("stream-end", {}), "missing-field", "data.stream_id, data.outcome: required"),
    (7, "invalid-event", "expected an object, got 7"),
    (None, "invalid-event", "expected an object, got null"),
]


@pytest.mark.parametrize(("bad", "code", "detail"), BAD_EVENTS, ids=[f"{row[2]}" for row in BAD_EVENTS])
def test_what_is_wrong_with_an_event_is_said_with_its_field(
    shared_api: Api, bad: Any, code: str, detail: str
) -> None:
    answer = shared_api.post([bad])
    assert problem(answer) == (422, "/problems/invalid-events")
    (rejected,) = answer.json()["rejected"]
    assert rejected["index"] == 0
    assert rejected["code"] == code
    assert rejected["detail"].startswith(detail)


BAD_BODIES: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", {}, 422, "invalid-json"),
    (b"{", {}, 422, "invalid-json"),
    (b"\xff\xfe", {}, 422, "invalid-json"),
    (b'[{"data":NaN}]', {}, 422, "invalid-json"),
    (b'["\\ud800"]', {}, 422, "invalid-events"),
    (b"[1", {"content-type": "application/x-ndjson"}, 422, "invalid-events"),
    (b"[" * 100_000, {}, 422, "invalid-json"),
    (b"[]", {}, 422, "invalid-events"),
    (b"nope", {"content-encoding": "gzip"}, 422, "invalid-encoding"),
    (gzip.compress(b"[]")[:-4], {"content-encoding": "gzip"}, 422, "invalid-encoding"),
    (b"nope", {"content-encoding": "zstd"}, 422, "invalid-encoding"),
    (zstandard.ZstdCompressor().compress(b"[]" * 99)[:-2], {"content-encoding": "zstd"}, 422, "invalid-encoding"),
    (b"nope", {"content-encoding": "deflate"}, 422, "invalid-encoding"),
    (zlib.compress(b"[]")[:-1], {"content-encoding": "deflate"}, 422, "invalid-encoding"),
    (zlib.compress(b"[]", wbits=-15)[:-1], {"content-encoding": "deflate"}, 422, "invalid-encoding"),
    (zlib.compress(b"[]") * 2, {"content-encoding": "deflate"}, 422, "invalid-encoding"),
    (b"[]", {"content-encoding": "br"}, 415, "unsupported-body"),
    (b"[]", {"content-type": "text/plain"}, 415, "unsupported-body"),
    (b"[]", {"content-type": "application/json; charset=utf-16"}, 415, "unsupported-body"),
    (b" " * (8 * 1024 * 1024 + 1), {}, 413, "body-too-large"),
    (gzip.compress(b" " * 50_000_000), {"content-encoding": "gzip"}, 413, "body-too-large"),
    (zlib.compress(b" " * 50_000_000), {"content-encoding": "deflate"}, 413, "body-too-large"),
    (zlib.compress(b" " * 50_000_000, wbits=-15), {"content-encoding": "deflate"}, 413, "body-too-large"),
    (zstandard.compress(b" " * 50_000_000), {"content-encoding": "zstd"}, 413, "body-too-large"),
    (b"[" + b"{}," * 10_000 + b"{}]", {}, 413, "too-many-events"),
]


@pytest.mark.parametrize(("body", "headers", "status", "slug"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_a_bad_body_gets_the_right_answer(
    shared_api: Api, body: bytes, headers: dict[str, str], status: int, slug: str
) -> None:
    answer = shared_api.client.post("/v1/events", content=body, headers=headers)
    assert problem(answer) == (status, f"/problems/{slug}")
    assert "Traceback" not in answer.text
    assert answer.json()["detail"]


def test_a_bad_line_of_ndjson_does_not_take_its_neighbours_with_it(api: Api) -> None:
    body = b"\n".join([json.dumps(start()).encode(), b"{nope", json.dumps(end()).encode()])
    answer = api.client.post("/v1/events", content=body, headers={"content-type": "application/x-ndjson"})
    assert answer.json()["accepted"] == 2
    assert answer.json()["rejected"][0]["index"] == 1
    assert answer.json()["rejected"][0]["code"] == "invalid-json"


def test_keys_open_only_what_they_are_for(api: Api) -> None:
    assert problem(api.client_with(Role.READ).post("/v1/events", json=[start()])) == (403, "/problems/forbidden")
    assert api.client_with(Role.INGEST).post("/v1/events", json=[start()]).status_code == 200
    for header in ("", "Basic eDp5", "Bearer", "Bearer nope", "Bearer mk_unknown_secret", "Bearer mk_\0_x"):
        refused = api.client.post(
            "/v1/events", json=[start()], headers={"authorization": header.replace("\0", "")}
        )
        assert problem(refused) == (401, "/problems/unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"


def test_the_journal_keeps_each_request_as_it_came(api: Api, rated_database: Database) -> None:
    body = json.dumps([{**start(), "extension": "kept"}, {"bad": 1}]).encode()
    api.client.post("/v1/events", content=gzip.compress(body), headers={"content-encoding": "gzip"})
    with psycopg.connect(rated_database.url) as connection:
        ((count, rejected, kept),) = connection.execute(
            "SELECT event_count, rejected, body FROM journal"
        ).fetchall()
    assert (count, rejected) == (1, [1])
    assert unpack_body(kept) == body
    assert msgspec.json.decode(body)[0]["extension"] == "kept"


def test_unknown_customers_are_created_unlinked(api: Api) -> None:
    api.post([{**start(), "subject": "новый клиент"}])
    (customer,) = api.client.get("/v1/customers").json()["data"]
    assert (customer["customer_id"], customer["stripe_customer_id"]) == ("новый клиент", None)


def test_an_event_that_repeats_a_key_is_rejected_by_name_and_its_neighbours_count(api: Api) -> None:
    once = json.dumps([start(), delivered(tokens=5)])
    twice = once.replace('"output_tokens": 5', '"output_tokens": 5, "output_tokens": 7')
    assert twice != once
    answer = api.client.post("/v1/events", content=twice)
    assert answer.json()["accepted"] == 1
    (rejected,) = answer.json()["rejected"]
    assert (rejected["index"], rejected["code"]) == (1, "duplicate-key")
    assert rejected["detail"] == '"output_tokens": the key is repeated within one object; send it once'
    assert api.client.get("/v1/streams/acme/s").json()["delivered"] is None
