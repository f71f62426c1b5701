"""Whatever bytes are posted as records of other senders: refused as documented, or they become valid events."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from metering.audit.run import audit
from metering.server.embedded.data_dir import Services
from tests.database import Template, clone
from tests.fuzz.bodies import BODIES, ENCODINGS, PACKED, TYPES
from tests.fuzz.wire import Answer, Header, examples, nothing_fails, request
from tests.running_api import Api, signed_in
from tests.translations.records import APISIX, ENVOY, HIGRESS, KONG, LITELLM, OPENMETER

pytestmark = pytest.mark.long

DOCUMENTED = {200, 204, 400, 413, 415, 422}
PATHS: dict[bytes, list[dict[str, Any]]] = {
    b"/api/v1/events": [OPENMETER, KONG],
    b"/v3/openmeter/events": [KONG],
    b"/v1/events/access-log?dialect=envoy": [{**ENVOY, "customer_id": "acme"}],
    b"/v1/events/access-log?dialect=apisix": [APISIX],
    b"/v1/events/access-log?dialect=higress": [HIGRESS],
    b"/v1/events/litellm": [LITELLM],
}
_ODD = [
    *(b"null", b"true", b'""', b"[]", b"{}", b"-1", b"1e999", b"NaN", b"9" * 5_000, b"1795984307.9"),
    *(b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"' + b"x" * 1_000 + b'"', b'"."', b'"output"'),
    *(b"[" * 3_000 + b"]" * 3_000, b'{"a":' * 900 + b"1" + b"}" * 900, b'"{\\"model\\": [[[]]]}"'),
    *(b'"0001-01-01T00:00:00+14:00"', b'"9999-12-31T23:59:59-14:00"', b'"2026-06-30T23:59:60.9999999Z"'),
]


@st.composite
def _records(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A path, and a body of its records in which values are others, in one of the forms of a body."""
    path = draw(st.sampled_from(sorted(PATHS)))
    parts = []
    for record in draw(st.lists(st.sampled_from(PATHS[path]), max_size=3)):
        part = json.dumps(record).encode()
        for _ in range(draw(st.integers(0, 2))):
            places = [at for at in range(len(part)) if part[at : at + 3] == b'": ']
            begin = draw(st.sampled_from(places)) + 3
            end = min(at for at in (part.find(b", ", begin), part.find(b"}", begin), len(part)) if at > 0)
            part = part[:begin] + draw(st.sampled_from(_ODD)) + part[end:]
        parts.append(part)
    form = draw(st.sampled_from(["array", "lines", "one"]))
    body = b"[" + b",".join(parts) + b"]" if form == "array" else b"\n".join(parts[: 1 if form == "one" else 3])
    return path, body


@pytest.fixture(scope="module")
def api(services: Services, rated_template: Template) -> Iterator[Api]:
    """An API; at the end, all that it has taken is finalized and audited."""
    with clone(services, rated_template) as database, database.service() as service, signed_in(service) as api:
        yield api
        with nothing_fails():
            api.finalize()
            api.finalize()
        assert audit(engine=service.engine, now=datetime.now(UTC)).differences == []


def check(answer: Answer) -> None:
    assert answer.status in DOCUMENTED, answer
    note(str(answer.status))
    if answer.status >= 400:
        assert b"application/problem+json" in answer.head
        assert answer.json["status"] == answer.status
    # What a translation makes is valid: nothing is left of it for the decoder to reject.
    told = answer.json.get("rejected", []) if answer.status in (200, 400) else []
    assert {each["code"] for each in told} <= {"left-out"}


def post(api: Api, path: bytes, body: bytes, *headers: Header) -> Answer:
    key = (b"authorization", api.client.headers["authorization"].encode())
    with nothing_fails():
        return request(api.url, "POST", path, headers=[key, *headers], body=body)


@examples(200)
@given(posted=_records())
def test_records_with_odd_values_are_refused_left_out_or_kept(api: Api, posted: tuple[bytes, bytes]) -> None:
    path, body = posted
    answer = post(api, path, body, (b"content-type", b"application/json"))
    check(answer)
    again = post(api, path, body, (b"content-type", b"application/json"))
    assert (again.status, again.body) == (answer.status, answer.body) or answer.status >= 400


@examples(100)
@given(path=st.sampled_from(sorted(PATHS)), body=BODIES, media_type=TYPES)
def test_any_body_is_refused_left_out_or_kept(api: Api, path: bytes, body: bytes, media_type: bytes) -> None:
    check(post(api, path, body, *([(b"content-type", media_type)] if media_type else [])))


@examples(40)
@given(path=st.sampled_from(sorted(PATHS)), body=PACKED, encoding=ENCODINGS)
def test_any_compressed_body_is_refused_left_out_or_kept(
    api: Api, path: bytes, body: bytes, encoding: bytes
) -> None:
    check(post(api, path, body, (b"content-encoding", encoding)))
