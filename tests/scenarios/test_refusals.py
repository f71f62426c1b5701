"""Bad input, whatever it is, gets its status, a problem a person can act on, and harms no neighbour."""

import gzip
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

import pytest
import zstandard

from tests.scenarios.clients import BATCH, LINES, PLAIN, SINGLE, Answer, Client, encode
from tests.scenarios.streams import HUGE, event
from tests.scenarios.whole import Whole

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
CUSTOMER = "refused"


class Absent(Enum):
    """No value, which is not the same as null; its name is the same in every process."""

    ABSENT = auto()


ABSENT = Absent.ABSENT


@pytest.fixture(scope="module")
def client(whole: Whole) -> Client:
    return Client(whole.url, whole.key)


def start(stream_id: str = "s", **data: object) -> dict:
    named = {"provider": "openai", "model": "gpt-5.5", "input_tokens": 1} | data
    return event("stream-start", CUSTOMER, stream_id, NOON, **named)


def token(stream_id: str = "s", **data: object) -> dict:
    made = event("token-delivered", CUSTOMER, stream_id, NOON + timedelta(seconds=1), seq=1, output_tokens=1)
    return made | {"data": made["data"] | data}


def end(stream_id: str = "s", **data: object) -> dict:
    return event("stream-end", CUSTOMER, stream_id, NOON + timedelta(seconds=2), **{"outcome": "completed"} | data)


def changed(made: dict, path: str, value: object) -> dict:
    """A copy with one field set, or left out when the value is ABSENT."""
    copy = json.loads(json.dumps(made))
    *parents, name = path.split(".")
    place = copy
    for parent in parents:
        place = place[parent]
    place.pop(name, None)
    return copy if value is ABSENT else (place.update({name: value}) or copy)


def raw(text: str) -> bytes:
    """A token event whose output_tokens is written exactly so."""
    return json.dumps(token(output_tokens="PLACE")).replace('"PLACE"', text).encode()


def check_problem(answer: Answer, status: int) -> dict:
    """RFC 9457 with a stable type, and nothing of the service's insides."""
    assert answer.status == status, answer.body[:600]
    assert answer.headers["content-type"].partition(";")[0] == "application/problem+json"
    problem = answer.json()
    assert re.fullmatch(r"/problems/[a-z]+(-[a-z]+)*", problem["type"])
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert not re.search(rb'Traceback|File "|\.py\b|site-packages|psycopg|sqlalchemy|msgspec', answer.body)
    return problem


LONG = "x" * 129
WRONG_EVENTS: list[tuple[str, dict, str, object]] = [
    *[
        (f"output_tokens {value!r}", token(), "data.output_tokens", value)
        for value in (-1, -HUGE, HUGE + 1, 10**400, 1.0, 1.5, True, "5", None, [1], {}, ABSENT)
    ],
    *[(f"seq {value!r}", token(), "data.seq", value) for value in (-1, HUGE + 1, 0.5, False, "1", ABSENT)],
    *[(f"input_tokens {value!r}", start(), "data.input_tokens", value) for value in (-1, 10**30, 2.0, True, "1")],
    *[
        (f"usage.{name}", end(usage={"input_tokens": 1}), f"data.usage.{name}", value)
        for name, value in (
            ("input_tokens", -1),
            ("output_tokens", HUGE + 1),
            ("cache_read_input_tokens", 1.25),
            ("cache_write_input_tokens", True),
            ("reasoning_output_tokens", "7"),
            ("input_audio_tokens", [7]),
            ("output_audio_tokens", -0.5),
        )
    ],
    ("usage is a list", end(), "data.usage", [1]),
    ("outcome unknown", end(), "data.outcome", "exploded"),
    ("outcome swept", end(), "data.outcome", "abandoned"),
    ("outcome missing", end(), "data.outcome", ABSENT),
    ("usage_source unknown", end(), "data.usage_source", "guess"),
    ("provider missing", start(), "data.provider", ABSENT),
    ("model missing", start(), "data.model", ABSENT),
    ("model is a number", start(), "data.model", 5),
    ("streaming is text", start(), "data.streaming", "yes"),
    ("tags of numbers", start(), "data.tags", {"a": 1}),
    ("17 tags", start(), "data.tags", {str(number): "x" for number in range(17)}),
    ("stream_id missing", token(), "data.stream_id", ABSENT),
    ("stream_id empty", token(), "data.stream_id", ""),
    ("stream_id long", token(), "data.stream_id", LONG),
    ("stream_id number", token(), "data.stream_id", 7),
    ("stream_id with NUL", token(), "data.stream_id", "a\x00b"),
    ("model with NUL", start(), "data.model", "gpt\x00"),
    ("subject missing", token(), "subject", ABSENT),
    ("subject empty", token(), "subject", ""),
    ("subject long", token(), "subject", LONG),
    ("subject with NUL", token(), "subject", "\x00"),
    ("type unknown", token(), "type", "stream-middle"),
    ("type missing", token(), "type", ABSENT),
    ("specversion old", token(), "specversion", "0.3"),
    ("specversion missing", token(), "specversion", ABSENT),
    ("source missing", token(), "source", ABSENT),
    ("id missing", token(), "id", ABSENT),
    ("time missing", token(), "time", ABSENT),
    ("time without offset", token(), "time", "2026-06-01T12:00:00"),
    ("time impossible", token(), "time", "2026-02-30T12:00:00Z"),
    ("time a number", token(), "time", 1_780_000_000),
    ("data missing", token(), "data", ABSENT),
    ("data a list", token(), "data", []),
]


@pytest.mark.parametrize(
    ("made", "path", "value"), [row[1:] for row in WRONG_EVENTS], ids=[r[0] for r in WRONG_EVENTS]
)
def test_a_wrong_event_is_named_and_its_neighbours_are_accepted(
    client: Client, made: dict, path: str, value: object
) -> None:
    wrong = changed(made, path, value)
    alone = check_problem(_post(client, [wrong]), 422)
    assert alone["type"] == "/problems/invalid-events"
    among = _post(client, [token("before"), wrong, token("after")])
    assert among.status == 200, among.body
    assert among.json()["accepted"] == 2
    for rejected, index in ((alone["rejected"], 0), (among.json()["rejected"], 1)):
        (only,) = rejected
        assert only["index"] == index
        assert only["id"] == wrong.get("id")
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", only["code"])
        field = path.rpartition(".")[2]
        assert field in only["detail"], only
        assert re.search(r"expected|missing|required|at most|must|invalid", only["detail"]), only


def _post(client: Client, events: list) -> Answer:
    body = json.dumps(events).encode()  # ASCII: a lone surrogate travels as its escape
    return client.request("POST", "/v1/events", body=body, Content_Type=BATCH)


@pytest.mark.parametrize("item", [None, 5, "text", [], {}, [token()], True], ids=repr)
def test_what_is_no_event_is_rejected_alone(client: Client, item: object) -> None:
    among = _post(client, [token("before"), item, token("after")])
    assert (among.status, among.json()["accepted"]) == (200, 2), among.body
    assert [rejected["index"] for rejected in among.json()["rejected"]] == [1]


@pytest.mark.parametrize("media_type", [BATCH, LINES])
def test_a_lone_surrogate_is_rejected_alone(client: Client, media_type: str) -> None:
    # RFC 8259 allows the escape, so this is valid JSON: one bad event among good ones.
    events = [token("before"), token("a\ud800b"), token("after")]
    body = json.dumps(events).encode() if media_type == BATCH else encode(events, LINES)
    answer = client.request("POST", "/v1/events", body=body, Content_Type=media_type)
    assert answer.status == 200, answer.body[:300]
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [1]


@pytest.mark.parametrize("depth", [10, 100, 500, 900])
def test_nesting_in_an_unknown_field_is_ignored_or_rejected_alone(client: Client, depth: int) -> None:
    deep = json.dumps(token(x="PLACE")).replace('"PLACE"', "[" * depth + "]" * depth)
    body = f"[{json.dumps(token('before'))},{deep}]"
    answer = client.request("POST", "/v1/events", body=body.encode(), Content_Type=BATCH)
    assert answer.status == 200, answer.body[:300]
    assert answer.json()["accepted"] >= 1


def test_a_line_that_is_not_json_is_rejected_alone(client: Client) -> None:
    for bad in (b"{bad", b"[1", b'{"data": 5', b"", raw("NaN"), raw("-Infinity"), b"\xff\xfe", b"[" * 50_000):
        lines = [json.dumps(token("before")).encode(), bad, json.dumps(token("after")).encode()]
        answer = client.request("POST", "/v1/events", body=b"\n".join(lines), Content_Type=LINES)
        assert answer.status == 200, (bad[:40], answer.body[:300])
        assert answer.json()["accepted"] == 2
        assert len(answer.json()["rejected"]) == (1 if bad else 0)


BOMB = gzip.compress(b"[" + b" " * 100_000_000 + b"]", compresslevel=9)
MANY = json.dumps([token()] * 10_001).encode()
LARGE = b"[" + b" " * (8 * 1024 * 1024) + b"]"
FINE = json.dumps([token()]).encode()
WRONG_BODIES: list[tuple[str, int, bytes, Mapping[str, str]]] = [
    ("empty", 422, b"", {}),
    ("not JSON", 422, b"hello", {}),
    ("a number", 422, b"5", {}),
    ("null", 422, b"null", {}),
    ("cut off", 422, FINE[:-9], {}),
    ("two documents", 422, FINE + FINE, {}),
    ("NaN", 422, b"[" + raw("NaN") + b"]", {}),
    ("Infinity", 422, b"[" + raw("Infinity") + b"]", {}),
    ("-Infinity", 422, b"[" + raw("-Infinity") + b"]", {}),
    ("a float in a single event", 422, raw("1e3"), {"Content_Type": SINGLE}),
    ("deep lists", 422, b"[" * 200_000, {}),
    ("deep objects", 422, b'[{"data":' * 100_000 + b"1" + b"}]" * 100_000, {}),
    ("not UTF-8", 422, FINE.replace(b"acme", b"\xff").replace(b"refused", b"\xc3\x28"), {}),
    ("raw lone surrogate", 422, FINE.replace(b"refused", b"\xed\xa0\x80"), {}),
    ("raw NUL", 422, FINE.replace(b"refused", b"a\x00b"), {}),
    ("gzip cut off", 422, gzip.compress(FINE)[:-9], {"Content_Encoding": "gzip"}),
    ("gzip that is not", 422, FINE, {"Content_Encoding": "gzip"}),
    ("zstd that is not", 422, FINE, {"Content_Encoding": "zstd"}),
    ("zstd cut off", 422, zstandard.compress(FINE)[:-5], {"Content_Encoding": "zstd"}),
    ("encoding unknown", 415, FINE, {"Content_Encoding": "br"}),
    ("text", 415, FINE, {"Content_Type": "text/plain"}),
    ("form", 415, FINE, {"Content_Type": "application/x-www-form-urlencoded"}),
    ("too many events", 413, MANY, {}),
    ("too large", 413, LARGE, {}),
    ("too large when inflated", 413, gzip.compress(LARGE), {"Content_Encoding": "gzip"}),
    ("gzip bomb", 413, BOMB, {"Content_Encoding": "gzip"}),
    ("zstd bomb", 413, zstandard.compress(b" " * 100_000_000), {"Content_Encoding": "zstd"}),
]


@pytest.mark.parametrize(
    ("status", "body", "headers"), [r[1:] for r in WRONG_BODIES], ids=[r[0] for r in WRONG_BODIES]
)
def test_a_body_that_cannot_be_read_is_refused_with_its_reason(
    client: Client, status: int, body: bytes, headers: Mapping[str, str]
) -> None:
    check_problem(
        client.request("POST", "/v1/events", body=body, **{"Content_Type": PLAIN} | dict(headers)), status
    )
    assert client.request("POST", "/v1/events", body=FINE, Content_Type=PLAIN).status == 200


def test_an_empty_batch_is_no_error_of_the_service(client: Client) -> None:
    answer = client.request("POST", "/v1/events", body=b"[]", Content_Type=BATCH)
    assert answer.status in (200, 422)
    assert not answer.json().get("rejected")


def test_what_is_just_allowed_is_accepted(client: Client) -> None:
    longest = "\U0001f980" * 128
    allowed = [
        token(output_tokens=HUGE, seq=HUGE),
        token(output_tokens=0, seq=0),
        token(stream_id=longest),
        token() | {"subject": longest},
        token() | {"time": "2026-06-01T12:00:01.123456789+05:45"},
        token() | {"time": "2026-06-01t12:00:01z"},
        token() | {"traceparent": "00-1", "datacontenttype": "application/json"},
        start("tagged", tags={str(number): "x" for number in range(16)}),
        token(stream_id="' OR 1=1; --\t\u202e"),
    ]
    assert _post(client, allowed).json() == {"accepted": len(allowed), "rejected": []}
    assert _post(client, [token()] * 10_000).json() == {"accepted": 10_000, "rejected": []}


@pytest.mark.parametrize(
    "key", [None, "", "nonsense", "mk_", "mk_nobody_secret", "mk_a_b_c_d", "mk_\xff_x", "x" * 5_000], ids=repr
)
def test_without_a_valid_key_nothing_is_accepted_or_shown(client: Client, key: str | None) -> None:
    stranger = client.with_key(key)
    for method, path in (("POST", "/v1/events"), ("GET", "/v1/charges"), ("GET", "/v1/streams/a/b")):
        check_problem(stranger.request(method, path, body=FINE, Content_Type=PLAIN), 401)


def test_another_scheme_and_a_near_miss_of_the_secret_are_no_keys(whole: Whole, client: Client) -> None:
    for value in (f"Basic {whole.key}", whole.key, f"Bearer {whole.key[:-1]}", f"Bearer {whole.key}x"):
        check_problem(client.request("GET", "/v1/charges", Authorization=value), 401)


def test_each_role_does_only_its_own(client: Client, new_key: Callable[..., str]) -> None:
    ingest, reader = client.with_key(new_key("ingest")), client.with_key(new_key("read"))
    assert ingest.request("POST", "/v1/events", body=FINE, Content_Type=PLAIN).status == 200
    check_problem(ingest.request("GET", "/v1/charges"), 403)
    assert reader.request("GET", "/v1/charges").status == 200
    check_problem(reader.request("POST", "/v1/events", body=FINE, Content_Type=PLAIN), 403)
    named = json.dumps({"name": "x"}).encode()
    for stranger in (ingest, reader):
        answer = stranger.request("PUT", "/v1/customers/acme", body=named, Content_Type=PLAIN)
        check_problem(answer, 403)


def test_a_key_bound_to_one_customer_sees_no_other(client: Client, new_key: Callable[..., str]) -> None:
    mine, theirs = "bound/mine", "bound/theirs"
    events = [
        each | {"subject": customer} for customer in (mine, theirs) for each in (start("b"), token("b"), end("b"))
    ]
    assert _post(client, events).status == 200
    bound = client.with_key(new_key("read", mine))
    assert bound.stream(mine, "b") is not None
    answer = bound.request("GET", "/v1/streams/bound%2Ftheirs/b")
    assert answer.status in (403, 404)
    check_problem(answer, answer.status)
    window = {"from": "2026-06-01T00:00:00Z", "to": "2026-07-01T00:00:00Z"}
    for path, query in (("/v1/charges", {}), ("/v1/totals", window | {"group_by": "customer_id"})):
        seen = {row["customer_id"] for row in bound.pages(path, **query)}
        assert seen <= {mine}
    refused = bound.request("GET", "/v1/charges?customer_id=bound%2Ftheirs")
    assert refused.status in (403, 404) or refused.json()["data"] == []
    assert {row["customer_id"] for row in client.pages("/v1/charges", customer_id=theirs)} <= {theirs}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/totals",
        "/v1/totals?from=2026-06-01T00:00:00Z&to=2026-07-01T00:00:00Z&group_by=moon",
        "/v1/totals?from=2026-06-01T00:00:00Z&to=2026-07-01T00:00:00Z&granularity=minute",
        "/v1/totals?from=2026-06-01T00:00:00&to=2026-07-01T00:00:00Z",
        "/v1/totals?from=yesterday&to=2026-07-01T00:00:00Z",
        "/v1/charges?limit=0",
        "/v1/charges?limit=1001",
        "/v1/charges?limit=ten",
        "/v1/charges?cursor=bogus",
        "/v1/charges?cursor=%00",
        "/v1/charges?outcome=exploded",
        "/v1/charges?usage_source=guess",
        "/v1/charges?from=never",
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(client: Client, path: str) -> None:
    check_problem(client.request("GET", path), 422)


@pytest.mark.parametrize(
    "path", ["/v1/streams/nobody/nothing", "/v1/streams/%20/..%2F", "/v1/nowhere", "/nowhere"]
)
def test_what_does_not_exist_is_not_found(client: Client, path: str) -> None:
    check_problem(client.request("GET", path), 404)


def test_a_wrong_method_is_a_problem_too(client: Client) -> None:
    check_problem(client.request("DELETE", "/v1/events"), 405)
