"""A receipt can be redone by anyone, without a database; whatever is changed in it is found."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metering.access.scopes import Role
from metering.audit.receipt_document import UnreadableReceiptError, verify_document
from tests.builders.posted import STARTED, event, rates, stream
from tests.running_api import Api, adjust, bill, put


def receipt(api: Api, stream_id: str) -> dict[str, Any]:
    answer = api.client.get(f"/v1/streams/acme/{stream_id}/receipt")
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def faults(document: dict[str, Any]) -> list[str]:
    return [check.fault for check in verify_document(json.dumps(document).encode()) if check.fault]


def full(api: Api) -> dict[str, Any]:
    """A receipt with everything: a markup, cached input, a tier, a late fact, a correction."""
    put(api, "/v1/markups/acme", percent="7.5", effective_from="2026-11-01T00:00:00Z")
    events = stream("full", outcome="cancelled", service_tier="batch")
    usage = {"input_tokens": 1_000, "output_tokens": 37, "cache_read_input_tokens": 400}
    events[1]["data"] |= {"usage": usage, "usage_source": "gateway_count"}
    bill(api, events)
    late = stream("full", outcome="cancelled")[1]
    late["data"] |= {"usage": {**usage, "output_tokens": 40}, "usage_source": "provider"}
    bill(api, [events[0], late])
    adjust(api, kind="correction", usd_cents="0.001", stream_id="full")
    return receipt(api, "full")


def test_what_is_billed_in_any_way_can_be_redone(api: Api) -> None:
    put(api, "/v1/cancel-policies/openai", policy="zero", effective_from="2026-11-01T00:00:00Z")
    put(api, "/v1/rates/house/m", rates=rates("3"), effective_from="2026-11-01T00:00:00Z", customer_id="acme")
    bill(api, stream("plain"))
    bill(api, stream("named", model="anthropic/claude-opus-4-7-20260416"))
    bill(api, stream("path", provider="google", model="models/gemini-2.5-pro@default"))
    bill(api, stream("arn", provider="aws", model="arn:aws:bedrock:eu-west-1::foundation-model/eu.zai.glm-5"))
    bill(api, stream("spaces", model=" Claude-Opus-4-7-Latest "))
    bill(api, stream("waived", provider="openai", model="gpt-5", outcome="failed"))
    bill(api, stream("own", provider="house", model="m"))
    bill(api, stream("stuck", provider="house", model="none"))
    counted = {"stream_id": "open", "seq": 1, "output_tokens": 5}
    bill(api, [stream("open")[0], event("token-delivered", counted, time=STARTED)])
    for stream_id in ("plain", "named", "path", "arn", "spaces", "waived", "own", "stuck", "open"):
        assert faults(receipt(api, stream_id)) == [], stream_id
    document = full(api)
    assert faults(document) == []
    assert document["usd_cents"] == "0.22675"
    assert [entry["reason"] for entry in document["entries"]] == ["charge", "late_facts", "correction"]


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        inner: Any = document
        for step in path[:-1]:
            inner = inner[step]
        assert inner[path[-1]] != to
        inner[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    "tamper",
    [
        change("usd_cents", to="0.22676"),
        change("bill", "usd_cents", to="0.22574"),
        change("bill", "lines", 0, "quantity", to=1),
        change("bill", "lines", 0, "usd_per_million", to="1"),
        change("bill", "lines", 0, "usd_cents", to="1"),
        change("bill", "usage", "output_tokens", to=1),
        change("bill", "usage_source", to="estimate"),
        change("bill", "outcome", to="completed"),
        change("bill", "markup_percent", to="0"),
        change("bill", "service_tier", to=None),
        change("bill", "rate_card_id", to="rc_other"),
        change("bill", "model_rule", to="anthropic/other equals other"),
        change("bill", "started_at", to="2026-11-23T14:00:00Z"),
        change("end", "usage", "output_tokens", to=41),
        change("start", "model", to="claude-opus-4.6"),
        change("rate_card", "card", "rates", 0, "usd_per_million", to="0.0001"),
        change("rate_card", "card", "effective_from", to="2030-01-01T00:00:00Z"),
        change("entries", 0, "usd_cents", to="0.2"),
        change("entries", 2, "usd_cents", to="-5"),
        lambda document: document["entries"].pop(),
        lambda document: document["bill"]["lines"].pop(),
        lambda document: document.update(note="paid"),
    ],
)
def test_any_change_in_a_receipt_is_found(api: Api, tamper: Callable[[dict[str, Any]], None]) -> None:
    document = full(api)
    tamper(document)
    assert faults(document)


def test_the_text_shows_the_arithmetic(api: Api) -> None:
    full(api)
    answer = api.client.get("/v1/streams/acme/full/receipt", headers={"accept": "text/plain"})
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line.split() for line in answer.text.splitlines()]
    assert ["input", "600", "2.6875", "0.16125"] in lines
    assert ["cost", "0.22675"] in lines
    assert "Policy   delivered, version 0" in answer.text
    assert "Markup   7.5 %" in answer.text


def test_the_command_line_verifies_offline_and_detects_a_forgery(api: Api, tmp_path: Path) -> None:
    document = full(api)
    for name, status, said in (("genuine", 0, "ok"), ("forged", 2, "is not consistent")):
        if name == "forged":
            document["usd_cents"] = "0"
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        ended = subprocess.run(
            [sys.executable, "-m", "metering", "verify", str(path)],
            capture_output=True,
            text=True,
            check=False,
            env={},
        )
        assert ended.returncode == status
        assert said in ended.stdout + ended.stderr


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"format": "stream-metering receipt 1"}', b"\xff"])
def test_a_document_that_is_not_a_receipt_is_refused(document: bytes) -> None:
    with pytest.raises(UnreadableReceiptError, match="not a receipt"):
        verify_document(document)


def test_a_reader_of_another_customer_gets_no_receipt(api: Api) -> None:
    bill(api, stream("plain"))
    with api.client_with(Role.READ, "bolt") as bound:
        assert bound.get("/v1/streams/acme/plain/receipt").status_code == 403
    assert api.client.get("/v1/streams/acme/none/receipt").status_code == 404


def granted(api: Api, cents: str, *, key: str) -> str:
    body = {"customer_id": "acme", "amount_usd_cents": cents, "paid_usd_cents": "0", "funding": "none"}
    put(api, "/v1/customers/acme", name="Acme")
    answer = api.client.post("/v1/grants", json={**body, "reason": "test"}, headers={"idempotency-key": key})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["grant_id"])


def test_a_receipt_says_which_grants_paid_of_which_booking_and_what_they_had_left(api: Api) -> None:
    first, second = granted(api, "0.3", key="a"), granted(api, "0.1", key="b")
    bill(api, stream("s"))
    document = receipt(api, "s")
    charge = document["entries"][0]["id"]
    names = ("grant_id", "entry_id", "usd_cents", "left_usd_cents")
    drawn = [tuple(each[name] for name in names) for each in document["draws"]]
    assert drawn == [(first, charge, "-0.3", "0"), (second, charge, "-0.1", "0")]
    assert faults(document) == []
    answer = api.client.get("/v1/streams/acme/s/receipt", headers={"accept": "text/plain"}).text
    assert re.search(rf"paid by {first} +-0.3  for {charge}, 0 left", answer)
    assert re.search(r"to be invoiced +0.0985", answer)
    document["draws"][0]["usd_cents"] = "-0.4"
    assert faults(document) == ["grants paid 0.5 cents of a cost of 0.4985"]


def test_a_credit_gives_back_to_the_grant_and_the_receipt_says_so(api: Api) -> None:
    grant = granted(api, "10", key="a")
    bill(api, stream("s"))
    adjust(api, kind="credit", usd_cents="-0.2", stream_id="s")
    document = receipt(api, "s")
    assert [(each["grant_id"], each["usd_cents"], each["left_usd_cents"]) for each in document["draws"]] == [
        (grant, "-0.4985", "9.5015"),
        (grant, "0.2", "9.7015"),
    ]
    assert faults(document) == []


def test_a_receipt_of_a_release_without_grants_is_still_read(api: Api) -> None:
    bill(api, stream("s"))
    document = receipt(api, "s")
    assert document.pop("draws") == []
    assert faults(document) == []
