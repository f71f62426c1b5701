"""Odd paths, queries, headers, cookies, forms and signed webhooks: answered as documented, and nothing fails."""

import hashlib
import hmac
import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.cursors import NUMBER, TEXT, TIME, cursor_pattern
from metering.server.embedded.data_dir import Services
from tests.api.described import operations
from tests.builders.posted import stream
from tests.database import Template, clone
from tests.fuzz.wire import PROBLEM, Answer, Header, examples, nothing_fails, request
from tests.running_api import Api, signed_in

pytestmark = pytest.mark.long

SECRET = "whsec_of_the_tests"


@dataclass(frozen=True)
class World:
    """A running API, how it is described, and a session of its dashboard."""

    api: Api
    described: dict[str, Any]
    key: Header
    cookie: Header
    token: str


@pytest.fixture(scope="module")
def world(services: Services, rated_template: Template) -> Iterator[World]:
    with (
        clone(services, rated_template) as database,
        database.service(for_api=True, stripe_webhook_secret=SECRET, trusted_proxies="127.0.0.1") as service,
        signed_in(service) as api,
    ):
        assert api.post([*stream("s"), *stream("a/b")]).status_code == 200
        api.finalize()
        authorization = api.client.headers["authorization"]
        form = {"key": authorization.removeprefix("Bearer ")}
        signed = api.client.post("/dashboard/sign-in", data=form, headers={"authorization": ""})
        cookie = signed.headers["set-cookie"].partition(";")[0]
        page = api.client.get("/dashboard/keys", headers={"cookie": cookie})
        token = re.search(r'name="token" value="(\w+)"', page.text)
        assert token is not None
        described = api.client.get("/openapi.json").json()
        yield World(
            api, described, (b"authorization", authorization.encode()), (b"cookie", cookie.encode()), token[1]
        )


ODD_TEXTS = [
    *("%00", "%ff", "%ed%a0%80", "%C2%85", "%0a", "%0d%0aa:b", "", "%20", "a" * 3_000, "%", "%zz", "'", "%22"),
    *("..", "%2e%2e%2f", "-1", "0", "1e5", "NaN", "9" * 5_000, "null", "[]", "*", "(", "%5c", "%F0%9F%92%B8"),
    *("0001-01-01T00:00:00Z", "9998-12-31T23:59:59-14:00", "0001-01-01T00:00:00%2B14:00", "2026-02-30T00:00:00Z"),
    *("2026-11-01T24:00:00Z", "2026-06-30T23:59:60Z", "2026-11-01T00:00:00.1234567890123Z", "2026-11-01"),
    *("9999-99", "2999-12", "1970-01", "0000-00", "%D9%A2%D9%A0%D9%A2%D9%A6-11", "localtime", "EST5EDT"),
    *("customer_id,model", "customer_id,,", "W10", "WyJhIl0", "p", "p.", "p.1", "p.a.b.c.d.e.f.g.h.i"),
]
_POSITIONS = [[TEXT], [NUMBER], [TIME, TEXT], [TIME, TEXT, TEXT], [TIME, NUMBER, NUMBER], [TEXT, TEXT, TIME, TEXT]]
_CURSORS = [st.from_regex(re.compile(cursor_pattern(*parts), re.ASCII), fullmatch=True) for parts in _POSITIONS]
VALUES = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=12).map(lambda text: urllib.parse.quote(text.encode(errors="replace"))),
    *_CURSORS,
)
_GOOD = {
    "kind": "charges",
    "format": "csv",
    "period": "2026-11",
    "customer_id": "acme",
    "stream_id": "s",
    "from": "2026-11-01T00:00:00Z",
    "to": "2026-12-01T00:00:00Z",
    "granularity": "none",
}
_DASHBOARD = [
    *("/", "/customers", "/customer", "/models", "/streams", "/stream", "/receipt.json", "/invoices", "/invoice"),
    *("/invoice/entries", "/statement.pdf", "/exports/charges.csv", "/drift", "/alerts", "/backlog", "/rates"),
    *(
        "/settle",
        "/alert",
        "/alert/new",
        "/webhook",
        "/webhook/new",
        "/rate",
        "/keys",
        "/audit-log",
        "/system",
        "/sign-in",
        "/nowhere",
        "/static/app.css",
        "/static/%2e%2e",
    ),
]
_FILTERS = [
    *("customer", "stream", "month", "behind", "csv", "model", "from", "to", "state", "flag", "id", "next", "q"),
    *("sort-customers", "sort-backlog", "version", "action", "reason", "kind", "alert_id", "endpoint_id"),
]
_HEADERS = [
    *(b"x-request-id", b"x-forwarded-for", b"if-none-match", b"accept", b"range", b"origin", b"hx-request"),
    *(b"if-modified-since", b"sec-fetch-site", b"expect", b"te", b"user-agent", b"accept-encoding"),
]
_ODD_BYTES = [b"\xff\xfe", b"", b"*", b'W/"', b"bytes=5-2", b"bytes=-", b"a, ,b", b"1" * 5_000]
_LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12)
ODD_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(_HEADERS),
        st.sampled_from(_ODD_BYTES) | _LATIN.map(lambda text: text.strip().encode("latin-1")),
    ),
    max_size=3,
)
_MORE = st.sampled_from(["", "", "&x=1", "&", "&limit=1&limit=2"])


@st.composite
def _asked(draw: st.DrawFn) -> tuple[int, dict[str, str], str]:
    """Which operation, with which values of its parameters, and what else stands in the query."""
    values = draw(st.dictionaries(st.integers(0, 8), VALUES, min_size=1, max_size=2))
    return draw(st.integers(0, 999)), {str(place): value for place, value in values.items()}, draw(_MORE)


def check_documented(answer: Answer, operation: dict[str, Any], asked: object) -> None:
    """The status is one that the operation documents, without those that nothing here provokes."""
    assert answer.status < 500, (asked, answer)
    if answer.status not in (400, 404, 405):  # the path may have become another one
        assert str(answer.status) in operation["responses"], (asked, answer)
    if answer.status >= 400:
        assert PROBLEM in answer.head, (asked, answer)
        assert answer.json["status"] == answer.status


@examples(250)
@given(asked=_asked(), headers=ODD_HEADERS)
def test_an_odd_question_is_answered_or_refused(
    world: World, asked: tuple[int, dict[str, str], str], headers: list[Header]
) -> None:
    number, odd, more = asked
    reads = [(path, each) for path, method, each in operations(world.described) if method == "get"]
    path, operation = reads[number % len(reads)]
    parameters = operation.get("parameters", ())
    given_values = {
        each["name"]: odd.get(str(place), _GOOD.get(each["name"], "x" if each["required"] else ""))
        for place, each in enumerate(parameters)
    }
    target = re.sub(r"{(\w+)}", lambda found: given_values[found[1]].replace("?", "") or "x", path)
    query = "&".join(
        f"{each['name']}={given_values[each['name']]}"
        for place, each in enumerate(parameters)
        if each["in"] == "query" and (each["required"] or str(place) in odd)
    )
    sent = f"{target}?{query}{more}".encode()
    with nothing_fails():
        answer = request(world.api.url, "GET", sent, headers=[world.key, *headers])
    check_documented(answer, operation, sent)


@examples(120)
@given(
    page=st.sampled_from(_DASHBOARD),
    odd=st.dictionaries(st.sampled_from(_FILTERS), VALUES, max_size=3),
    headers=ODD_HEADERS,
)
def test_an_odd_question_to_the_dashboard_is_a_page(
    world: World, page: str, odd: dict[str, str], headers: list[Header]
) -> None:
    query = "&".join(f"{name}={value}" for name, value in {"customer": "acme", "stream": "s", **odd}.items())
    sent = f"/dashboard{page}?{query}".encode()
    with nothing_fails():
        answer = request(world.api.url, "GET", sent, headers=[world.cookie, *headers])
    assert answer.status < 500, (sent, answer.head)


_FORMS = {
    "/keys/create": ["name", "role", "scopes", "customer_id", "source", "expires_on"],
    "/keys/rotate": ["key_id", "overlap_hours"],
    "/keys/revoke": ["key_id"],
    "/backlog/settle": ["customer_id", "stream_id", "action", "reason", "version"],
    "/alert/create": ["kind", "name", "scope", "customer_id", "thresholds", "budget", "minimum", "trailing_days"],
    "/alert/change": ["alert_id", "name", "thresholds", "budget", "minimum", "trailing_days"],
    "/webhook/create": ["url", "description"],
    "/webhook/replay": ["endpoint_id", "delivery_id", "since"],
    "/webhook/rotate": ["endpoint_id", "overlap_hours"],
    "/sign-in": ["key", "next"],
}
FORM_FIELDS = {
    "name": "x",
    "role": "read",
    "key_id": "nobody",
    "overlap_hours": "1",
    "customer_id": "acme",
    "stream_id": "s",
    "action": "write_off",
    "reason": "x",
    "kind": "daily_change",
    "scope": "deployment",
    "thresholds": "50",
    "minimum": "1",
}


@examples(60)
@given(
    path=st.sampled_from(sorted(_FORMS)),
    place=st.integers(0, 7),
    value=VALUES,
    tail=st.binary(max_size=6),
    media_type=st.sampled_from([b"application/x-www-form-urlencoded"] * 4 + [b"multipart/form-data", b"\xff"]),
)
def test_an_odd_form_is_a_page(
    world: World, path: str, place: int, value: str, tail: bytes, media_type: bytes
) -> None:
    field = _FORMS[path][place % len(_FORMS[path])]
    fields = {**FORM_FIELDS, "token": world.token}
    fields.pop(field, None)
    body = urllib.parse.urlencode(fields).encode() + f"&{field}={value}".encode() + tail
    # Failed attempts of one address are answered late.
    address = (b"x-forwarded-for", b"192.0.2.%d" % (len(body) % 250))
    headers = [world.cookie, (b"content-type", media_type), address]
    with nothing_fails():
        answer = request(world.api.url, "POST", f"/dashboard{path}".encode(), headers=headers, body=body)
    assert answer.status < 500, (body, answer.head)


_ODD_TEXT = st.sampled_from(["\0", "\ud800", "9" * 5_000])
_JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), _ODD_TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_ODD_SIGNATURES = [b"", b"t=", b"t=1", b"v1=", b"t=\xff,v1=a", b"t=" + b"9" * 5_000 + b",v1=a"]
_STRIPE_EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "invoice.paid",
    "created": 1_793_000_000,
    "livemode": False,
    "data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1", "metadata": {}}},
}


@examples(80)
@given(
    changes=st.dictionaries(st.sampled_from([*_STRIPE_EVENT, "x"]), _JSON_VALUES, max_size=2),
    bytes_instead=st.none() | st.sampled_from([b"", b"null", b"[]", b"\xff", b"[" * 50_000, b"1" * 5_000]),
    signature=st.none() | st.sampled_from(_ODD_SIGNATURES),
)
def test_an_odd_webhook_is_stored_or_refused(
    world: World, changes: dict[str, Any], bytes_instead: bytes | None, signature: bytes | None
) -> None:
    body = json.dumps({**_STRIPE_EVENT, **changes}).encode() if bytes_instead is None else bytes_instead
    if signature is None:
        at = str(int(time.time())).encode()
        signature = b"t=" + at + b",v1=" + _signed(at + b"." + body)
    headers = [(b"stripe-signature", signature), (b"content-type", b"application/json")]
    with nothing_fails():
        answer = request(world.api.url, "POST", b"/v1/stripe/webhook", headers=headers, body=body)
    check_documented(answer, world.described["paths"]["/v1/stripe/webhook"]["post"], body)


def _signed(payload: bytes) -> bytes:
    return hmac.new(SECRET.encode(), payload, hashlib.sha256).hexdigest().encode()
