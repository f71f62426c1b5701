"""Records of other senders at the API: what they cost to the cent, what receipts say, and what is told back."""

import gzip
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from metering.access.scopes import Role
from metering.api.app import create_app
from metering.audit.run import audit
from metering.core.clock import utc_now
from metering.events.events import EVIDENCE, Inlet
from metering.events.wire.bodies import unpack_body
from metering.server.settings import ConfigurationError
from tests.database import Database
from tests.metrics import Scrape
from tests.running_api import Api, signed_in
from tests.translations.records import APISIX, ENVOY, HIGRESS, KONG, LITELLM, OPENMETER

OPENMETERS, KONGS = "/api/v1/events", "/v3/openmeter/events"
LOG, LITELLMS = "/v1/events/access-log?dialect=", "/v1/events/litellm"
BACKEND = "default/openai/route/llm/rule/0/ref/0"


def answered(event: dict[str, Any], id: str, type: str, **data: Any) -> dict[str, Any]:
    return {**event, "id": id, "data": {**event["data"], "tokens": 8, "type": type, **data}}


def joined(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "data": {**event["data"], "completion_id": "c1"}}


@dataclass(frozen=True)
class Case:
    """Records, who pays for them, and what they cost in cents, by the catalogue's prices."""

    path: str
    records: Sequence[dict[str, Any]]
    customer: str
    cents: str
    inlet: Inlet
    streams: int = 1


CASES = {
    "openmeter": Case(
        OPENMETERS, [OPENMETER, answered(OPENMETER, "2", "output")], "customer-1", "0.033", Inlet.OPENMETER, 2
    ),
    "openmeter, joined": Case(
        KONGS,
        [joined(OPENMETER), joined(answered(OPENMETER, "2", "output"))],
        "customer-1",
        "0.033",
        Inlet.OPENMETER,
    ),
    "kong": Case(KONGS, [KONG, answered(KONG, "2", "response")], "customer-1", "0.01375", Inlet.OPENMETER, 2),
    "envoy": Case(
        f"{LOG}envoy",
        [{**ENVOY, "gen_ai.provider.name": BACKEND, "customer_id": "acme"}],
        "acme",
        "0.000645",
        Inlet.ACCESS_LOG,
    ),
    "apisix": Case(f"{LOG}apisix", [APISIX], "jack", "0.117", Inlet.ACCESS_LOG),
    "higress": Case(f"{LOG}higress", [HIGRESS], "consumer1", "0.065", Inlet.ACCESS_LOG),
    "litellm": Case(LITELLMS, [LITELLM], "acme", "0.024", Inlet.LITELLM),
}


def post(api: Api, path: str, records: Any, **options: Any) -> httpx2.Response:
    return api.client.post(path, json=records, **options)


def charges_of(api: Api, customer: str) -> list[dict[str, Any]]:
    api.finalize()
    found: list[dict[str, Any]] = api.client.get("/v1/charges", params={"customer_id": customer}).json()["data"]
    return sorted(found, key=lambda charge: str(charge["charge_id"]))


@pytest.mark.parametrize("name", CASES)
def test_records_cost_exactly_what_they_say_and_the_receipt_says_how_they_came(api: Api, name: str) -> None:
    case = CASES[name]
    answer = post(api, case.path, case.records)
    assert answer.status_code == (204 if case.inlet is Inlet.OPENMETER else 200), answer.text
    if answer.content:
        assert answer.json() == {"accepted": len(case.records), "rejected": []}
    charges = charges_of(api, case.customer)
    assert len(charges) == case.streams
    assert sum(Decimal(charge["cost_usd_cents"]) for charge in charges) == Decimal(case.cents)
    for charge in charges:
        path = f"/v1/streams/{case.customer}/{charge['stream_id']}/receipt"
        assert api.client.get(path).json()["bill"]["inlet"] == case.inlet
        assert EVIDENCE[case.inlet] in api.client.get(path, headers={"accept": "text/plain"}).text
    assert audit(engine=api.service.engine, now=utc_now()).differences == []


@pytest.mark.parametrize("name", CASES)
def test_records_that_are_sent_again_in_any_order_and_batches_change_nothing(api: Api, name: str) -> None:
    case = CASES[name]
    for records in permutations(case.records):
        for record in records:
            post(api, case.path, record)
    once = charges_of(api, case.customer)
    for records in permutations(case.records):
        post(api, case.path, [*records, *records])
    assert charges_of(api, case.customer) == once
    assert api.client.get("/v1/backlog").json()["data"] == []
    assert sum(Decimal(charge["cost_usd_cents"]) for charge in once) == Decimal(case.cents)


def test_an_output_that_comes_before_its_input_waits_for_it(api: Api) -> None:
    asked, output = CASES["openmeter, joined"].records
    post(api, KONGS, output)
    assert charges_of(api, "customer-1") == []
    post(api, KONGS, asked)
    [charge] = charges_of(api, "customer-1")
    assert charge["cost_usd_cents"] == "0.033"


def test_prompts_and_answers_are_not_in_the_journal(api: Api, rated_database: Database) -> None:
    log = {"model": "gpt-4o", "input_token": 1, "output_token": 2, "question": "A SECRET", "answer": "A SECRET"}
    assert post(api, LITELLMS, [LITELLM]).status_code == 200
    assert post(api, f"{LOG}higress", {**HIGRESS, "ai_log": json.dumps(log), "consumer": "a"}).status_code == 200
    with psycopg.connect(rated_database.url) as connection:
        bodies = [unpack_body(body) for (body,) in connection.execute("SELECT body FROM journal")]
    assert len(bodies) == 2
    assert not any(b"SECRET" in body for body in bodies)


def test_a_cancelled_line_is_a_stream_that_costs_nothing_and_says_why(api: Api) -> None:
    cut = {"response_flags": "DC", "gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}
    line = {**CASES["envoy"].records[0], **cut}
    assert post(api, f"{LOG}envoy", line).json()["accepted"] == 1
    [charge] = charges_of(api, "acme")
    assert (charge["outcome"], charge["cost_usd_cents"]) == ("cancelled", "0")
    receipt = api.client.get(
        f"/v1/streams/acme/{charge['stream_id']}/receipt", headers={"accept": "text/plain"}
    ).text
    assert "what a cancelled stream delivered is not known" in receipt


def test_lines_may_come_as_text_and_compressed(api: Api) -> None:
    line = json.dumps(APISIX)
    body = gzip.compress(f"{line}\nrubbish\n{line.replace('gpt-4', 'gpt-4o')}\n".encode())
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    answer = api.client.post(f"{LOG}apisix", content=body, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    [left] = answer.json()["rejected"]
    assert (left["index"], left["code"]) == (1, "left-out")


@pytest.mark.parametrize("path", [OPENMETERS, f"{LOG}envoy", LITELLMS])
def test_if_nothing_can_be_used_the_sender_is_told_at_once(api: Api, path: str) -> None:
    records = {OPENMETERS: {**OPENMETER, "type": "translate"}, LITELLMS: {**LITELLM, "startTime": "soon"}}
    answer = post(api, path, [records.get(path, ENVOY)])
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["type"] == "/problems/no-record-accepted"
    [left] = problem["rejected"]
    assert left["detail"] in problem["detail"]
    assert left["id"] is not None


@pytest.mark.parametrize("path", [OPENMETERS, f"{LOG}envoy", LITELLMS])
def test_a_request_without_records_of_completions_is_fine(api: Api, path: str) -> None:
    idle = {OPENMETERS: {**KONG, "type": "kong.api_request"}, LITELLMS: {**LITELLM, "cache_hit": True}}
    for records in ([], [idle.get(path, {"method": "GET"})]):
        answer = post(api, path, records)
        assert answer.status_code in (200, 204), answer.text
        assert not answer.content or answer.json() == {"accepted": 0, "rejected": []}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (OPENMETERS, b"[", 422),
        (LITELLMS, b"[", 422),
        (LITELLMS, b"", 422),
        (f"{LOG}envoy", b" \n", 422),
        (f"{LOG}nginx", b"[]", 422),
        ("/v1/events/access-log", b"[]", 422),
        (f"{LOG}envoy&dialct=envoy", b"[]", 422),
        (LITELLMS, b"[" + b"{}," * 400_001 + b"{}]", 413),
        (OPENMETERS, b"[" + b"0," * 400_001 + b"0]", 413),
        (f"{LOG}envoy", b"[" + b"0," * 400_001 + b"0]", 413),
        (OPENMETERS, b"[" + b"{}," * 10_000 + b"{}]", 413),
        (f"{LOG}envoy", b"{}\n" * 10_001, 413),
        (LITELLMS, b"{}\n" * 10_001, 413),
        (OPENMETERS, json.dumps([{**OPENMETER, "id": str(id)} for id in range(5_001)]).encode(), 413),
    ],
)
def test_what_is_no_request_is_refused_as_documented(api: Api, path: str, body: bytes, status: int) -> None:
    answer = api.client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_key_posts_for_its_own_customer_only(api: Api) -> None:
    with api.client_with(Role.INGEST, customer_id="umbrella") as client:
        assert client.post(OPENMETERS, json=OPENMETER).status_code == 204
        assert client.post(LITELLMS, json=LITELLM).status_code == 200
    assert charges_of(api, "customer-1") == charges_of(api, "acme") == []
    assert len(charges_of(api, "umbrella")) == 2
    with api.client_with(Role.READ) as client:
        assert client.post(OPENMETERS, json=OPENMETER).status_code == 403


def test_what_is_left_out_is_counted_and_logged_by_key_and_inlet(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    def counted() -> dict[str, float]:
        found = Scrape(api.client.get("/metrics").text).samples.items()
        ours = {labels: value for (name, labels), value in found if name == "metering_records_left_out_total"}
        return {dict(labels)["inlet"]: value for labels, value in ours.items() if dict(labels)["key"] == key_id}

    key_id = api.client.headers["authorization"].removeprefix("Bearer ").split("_")[1]
    unmapped = {**OPENMETER, "type": "translate"}
    with caplog.at_level(logging.WARNING, logger="metering.api.ingest"):
        assert post(api, OPENMETERS, [OPENMETER, unmapped, {**unmapped, "id": "2"}]).status_code == 204
        assert post(api, OPENMETERS, [unmapped]).status_code == 400
        assert post(api, f"{LOG}envoy", [ENVOY]).status_code == 400
    assert counted() == {"openmeter": 3, "access_log": 1}
    said = [vars(record) for record in caplog.records if record.message == "records were left out"]
    assert [(each["inlet"], each["record"], "METERING_OPENMETER_TYPES" in each["reason"]) for each in said] == [
        ("openmeter", 1, True)
    ]


def test_settings_say_who_pays_and_what_upstreams_and_types_are(rated_database: Database, tmp_path: Path) -> None:
    types = tmp_path / "types.toml"
    types.write_text('[types.translate.kinds]\ninput = "input_tokens"\n')
    with (
        rated_database.service(
            openmeter_types=types,
            access_log_customer="who.pays, x-team",
            access_log_providers="default/tars=openai",
            litellm_customer="team",
            litellm_default_customer="nobody",
        ) as service,
        signed_in(service) as api,
    ):
        assert post(api, OPENMETERS, {**OPENMETER, "type": "translate"}).status_code == 204
        assert post(api, f"{LOG}envoy", {**ENVOY, "x-team": "blue"}).status_code == 200
        assert post(api, LITELLMS, LITELLM).status_code == 200
        found = [charges_of(api, customer) for customer in ("customer-1", "blue", "red")]
    assert [[charge["cost_usd_cents"] for charge in charges] for charges in found] == [
        ["0.025"],
        ["0.000645"],
        ["0.024"],
    ]


def test_a_file_of_types_that_cannot_be_used_is_named_at_start(rated_database: Database, tmp_path: Path) -> None:
    with (
        rated_database.service(openmeter_types=tmp_path / "none.toml") as service,
        pytest.raises(ConfigurationError, match=r"METERING_OPENMETER_TYPES: .*none\.toml"),
    ):
        create_app(service)
