"""Whatever bytes are posted: they are refused as documented, or kept, readable again, and agree with the audit."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from metering.audit.run import audit
from metering.events.wire.bodies import unpack_body
from metering.events.wire.decode import decode_json
from metering.events.wire.replay import events_as_sent
from metering.server.embedded.data_dir import Services
from tests.database import Database, Template, clone
from tests.fuzz.bodies import BODIES, ENCODINGS, PACKED, TYPES
from tests.fuzz.wire import Answer, Header, examples, nothing_fails, request
from tests.running_api import Api, signed_in

pytestmark = pytest.mark.long

# Those of /openapi.json that do not depend on the state of the service.
DOCUMENTED = {200, 413, 415, 422}


@pytest.fixture(scope="module")
def kept(services: Services, rated_template: Template) -> Iterator[tuple[Api, Database]]:
    """An API whose journal is compared with its answers; at the end, all of it is finalized and audited."""
    with clone(services, rated_template) as database, database.service() as service, signed_in(service) as api:
        yield api, database
        with nothing_fails():
            api.finalize()
            api.finalize()
        assert audit(engine=service.engine, now=datetime.now(UTC)).differences == []


_NEWEST = "SELECT event_count, media_type, rejected, body FROM journal ORDER BY journal_id DESC LIMIT 1"


def newest(database: Database) -> tuple[int, str, list[int], bytes]:
    """Events, media type, indexes of rejected events, and body of the newest row of the journal."""
    with psycopg.connect(database.url) as connection:
        ((count, media_type, rejected, body),) = connection.execute(_NEWEST)
    return count, media_type, rejected or [], unpack_body(body)


def rows(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        row = connection.execute("SELECT count(*) FROM journal").fetchone()
    assert row is not None
    return int(row[0])


def check(kept: tuple[Api, Database], before: int, answer: Answer) -> None:
    """The answer is documented, and the journal has what it says, and nothing else."""
    api, database = kept
    assert answer.status in DOCUMENTED, answer
    note(str(answer.status))
    if answer.status != 200:
        assert b"application/problem+json" in answer.head
        assert answer.json["status"] == answer.status
        assert rows(database) == before
        return
    accepted = answer.json["accepted"]
    assert accepted > 0
    count, media_type, rejected, body = newest(database)
    assert rows(database) == before + 1
    assert count == accepted
    assert rejected == [each["index"] for each in answer.json["rejected"]]
    sent = [raw for _, raw in events_as_sent(body=body, media_type=media_type, rejected=rejected)]
    assert len(sent) == accepted
    for raw in sent:
        (event,) = decode_json(raw).events
        page = api.client.get(f"/v1/streams/{quoted(event.subject)}/{quoted(event.data.stream_id)}/events")
        assert page.status_code == 200
        assert json.loads(raw) in [each["event"] for each in page.json()["data"]] or page.json()["next_cursor"]


def quoted(text: str) -> str:
    return "".join(f"%{octet:02X}" for octet in text.encode())


def post(api: Api, body: bytes, headers: list[Header], *, chunks: int | None = None) -> Answer:
    key = (b"authorization", api.client.headers["authorization"].encode())
    return request(api.url, "POST", b"/v1/events", headers=[key, *headers], body=body, chunks=chunks)


@examples(150)
@given(body=BODIES, media_type=TYPES)
def test_any_body_is_refused_or_kept(kept: tuple[Api, Database], body: bytes, media_type: bytes) -> None:
    before = rows(kept[1])
    with nothing_fails():
        answer = post(kept[0], body, [(b"content-type", media_type)] if media_type else [])
    check(kept, before, answer)


@examples(80)
@given(body=PACKED, encoding=ENCODINGS)
def test_any_compressed_body_is_refused_or_kept(kept: tuple[Api, Database], body: bytes, encoding: bytes) -> None:
    before = rows(kept[1])
    with nothing_fails():
        answer = post(kept[0], body, [(b"content-encoding", encoding)])
    check(kept, before, answer)


@examples(40)
@given(body=BODIES, size=st.sampled_from([1, 7, 4_096]), twice=st.booleans())
def test_any_body_in_chunks_and_with_doubled_headers_is_refused_or_kept(
    kept: tuple[Api, Database], body: bytes, size: int, twice: bool
) -> None:
    before = rows(kept[1])
    json_type = (b"content-type", b"application/json")
    other = (b"content-type", b"application/x-ndjson")
    with nothing_fails():
        answer = post(kept[0], body, [json_type, other] if twice else [json_type], chunks=size)
    check(kept, before, answer)
