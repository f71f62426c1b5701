"""The inlet is the grade of a stream's evidence: it is on the stream, its charge, its receipt and in totals."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.audit.receipt_document import verify_document
from metering.audit.run import audit
from metering.events.events import Inlet
from metering.ledger.store.rollups import roll_up_totals
from tests.builders.posted import stream
from tests.running_api import Api, bill

MONTH = {"from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}


def by(inlet: str | None, stream_id: str, *, of_the_end: str | None = None) -> list[dict[str, Any]]:
    """A stream whose events name their inlet, or none."""
    first, last = stream(stream_id)
    for event, name in ((first, inlet), (last, of_the_end or inlet)):
        if name is not None:
            event["data"]["inlet"] = name
    return [first, last]


def totals(api: Api, **query: str) -> dict[str, tuple[int, str]]:
    rows = api.client.get("/v1/totals", params={**MONTH, "group_by": "inlet", **query}).json()["data"]
    return {row["inlet"]: (row["stream_count"], row["cost_usd_cents"]) for row in rows}


@pytest.mark.parametrize("inlet", list(Inlet))
def test_the_inlet_is_on_the_stream_its_charge_and_its_receipt(api: Api, inlet: Inlet) -> None:
    assert bill(api, by(inlet, "s"))["inlet"] == inlet
    (charge,) = api.client.get("/v1/charges", params={"inlet": inlet}).json()["data"]
    assert (charge["stream_id"], charge["inlet"]) == ("s", inlet)
    document = api.client.get("/v1/streams/acme/s/receipt").content
    assert [check.fault for check in verify_document(document)] == [None] * 6
    forged = json.loads(document)
    forged["bill"]["inlet"] = "litellm" if inlet is Inlet.OTLP else "otlp"
    assert any(check.fault for check in verify_document(json.dumps(forged).encode()))
    text = api.client.get("/v1/streams/acme/s/receipt", headers={"accept": "text/plain"}).text
    assert (f"Inlet    {inlet}: " in text) == (inlet is not Inlet.EVENTS)


def test_totals_tell_inlets_apart_before_and_after_they_are_rolled_up(api: Api) -> None:
    api.post([*by(None, "a"), *by("events", "b"), *by("otlp", "c"), *by("access_log", "d")])
    expected = {"events": (2, "0.997"), "otlp": (1, "0.4985"), "access_log": (1, "0.4985")}
    api.finalize()
    assert totals(api) == expected
    roll_up_totals(api.service.engine)
    assert totals(api) == expected
    assert totals(api, customer_id="acme") == expected
    assert audit(engine=api.service.engine, now=datetime.now(UTC)).differences == []


def test_what_the_end_says_counts_since_it_has_the_usage(api: Api) -> None:
    assert bill(api, by("events", "s", of_the_end="otlp"))["inlet"] == "otlp"
    assert bill(api, by("otlp", "t")[:1])["inlet"] == "otlp"


def test_naming_the_usual_inlet_is_the_same_as_naming_none(api: Api) -> None:
    api.post(by(None, "s"))
    assert bill(api, by("events", "s"))["state"] == "finalized"


def test_a_better_count_by_another_inlet_changes_the_inlet(api: Api) -> None:
    first, last = by("access_log", "s")
    last["data"]["usage_source"] = "estimate"
    assert bill(api, [first, last])["inlet"] == "access_log"
    roll_up_totals(api.service.engine)
    better = by("litellm", "s")[1]
    assert bill(api, [{**better, "id": "better"}])["inlet"] == "litellm"
    assert totals(api) == {"litellm": (1, "0.4985")}
    assert audit(engine=api.service.engine, now=datetime.now(UTC)).differences == []


def test_an_unknown_inlet_is_refused_with_those_that_there_are(api: Api) -> None:
    (refused, _) = api.post(by("carrier_pigeon", "s")).json()["rejected"]
    assert refused["detail"] == (
        'data.inlet: expected events, litellm, otlp, openmeter or access_log, got "carrier_pigeon"'
    )
