"""What needs attention is listed with its reason and its fix, and settled by one with a reason that is kept."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.access.scopes import Role
from metering.ledger.finalize_due import finalize_due
from metering.streams.resolutions import ResolutionAction
from tests.builders.posted import STARTED, event, stream
from tests.running_api import Api, bill

REASON = {"reason": "agreed with the customer"}


def finalize_later(api: Api) -> None:
    """What a worker does when the grace period is over."""
    finalize_due(
        engine=api.service.engine,
        price_books=api.service.price_books,
        waits=api.service.waits,
        now=datetime.now(UTC) + timedelta(minutes=6),
        limit=1000,
    )


def resolve(api: Api, stream_id: str, action: str, **changes: str) -> Any:
    body = {"action": action, **REASON, **changes}
    return api.client.post(f"/v1/streams/acme/{stream_id}/resolution", json=body)


def fill(api: Api) -> None:
    """One stream for each thing that can be wrong, and one that is well."""
    api.post(stream("well"))
    api.post(stream("unpriced", provider="house", model="own-1"))
    api.post([*stream("conflicting"), stream("conflicting", model="claude-opus-4.6")[0]])
    api.post(stream("orphaned")[1:])
    finalize_later(api)


def backlog(api: Api, **params: str) -> dict[str, dict[str, Any]]:
    return {item["stream_id"]: item for item in api.client.get("/v1/backlog", params=params).json()["data"]}


def test_the_backlog_says_what_is_wrong_and_what_resolves_it(api: Api) -> None:
    fill(api)
    items = backlog(api)
    assert list(items) == ["unpriced", "conflicting", "orphaned"]
    assert {item["state"] for item in items.values()} == {"unpriced", "conflicting", "orphaned"}
    assert "no rate for house/own-1" in items["unpriced"]["reason"]
    assert items["unpriced"]["reason"].endswith(": provider house has no rates")
    assert "rates set" in items["unpriced"]["fix"]
    assert items["conflicting"]["actions"] == ["bill_as_is", "write_off"]
    assert items["orphaned"]["actions"] == ["write_off"]
    assert items["orphaned"]["usage"] == {"input_tokens": 812, "output_tokens": 37}
    assert list(backlog(api, state="orphaned")) == ["orphaned"]
    assert backlog(api, customer_id="bolt") == {}


def test_the_backlog_is_read_page_by_page(api: Api) -> None:
    fill(api)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = api.client.get("/v1/backlog", params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["stream_id"] for item in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["unpriced", "conflicting", "orphaned"]


def test_a_conflict_can_be_billed_as_it_is_and_the_reason_is_kept(api: Api) -> None:
    fill(api)
    answer = resolve(api, "conflicting", "bill_as_is")
    assert answer.status_code == 200, answer.text
    api.finalize()
    shape = api.client.get("/v1/streams/acme/conflicting").json()
    assert shape["state"] == "finalized"
    assert shape["cost_usd_cents"] == "0.4985"
    assert shape["resolution"]["reason"] == REASON["reason"]
    assert shape["resolution"]["resolved_by"].startswith("key ")
    assert "conflicting" not in backlog(api)


@pytest.mark.parametrize("stream_id", ["unpriced", "conflicting", "orphaned"])
def test_anything_can_be_written_off(api: Api, stream_id: str) -> None:
    fill(api)
    assert resolve(api, stream_id, "write_off").status_code == 200
    finalize_later(api)
    shape = api.client.get(f"/v1/streams/acme/{stream_id}").json()
    assert (shape["state"], shape["cost_usd_cents"]) == ("finalized", "0")
    assert shape["usage"] == {"input_tokens": 812, "output_tokens": 37}
    assert stream_id not in backlog(api)


def test_what_was_written_off_is_billed_after_all_when_the_missing_fact_comes(api: Api) -> None:
    fill(api)
    for stream_id in ("orphaned", "unpriced"):
        resolve(api, stream_id, "write_off")
    finalize_later(api)
    orphan = bill(api, stream("orphaned")[:1])
    assert orphan["cost_usd_cents"] == "0.4985"
    assert [entry["usd_cents"] for entry in orphan["adjustments"]] == ["0.4985"]


def test_a_decision_about_other_facts_does_not_hold(api: Api) -> None:
    fill(api)
    resolve(api, "conflicting", "bill_as_is")
    api.finalize()
    earlier = stream("conflicting", model="claude-opus-4.5", time="2026-11-23T14:00:00Z")[0]
    again = bill(api, [earlier])
    assert (again["state"], again["cost_usd_cents"]) == ("conflicting", None)
    assert "conflicting" in backlog(api)


def test_an_end_that_is_believed_more_settles_a_conflict_of_ends_by_itself(api: Api) -> None:
    end = stream("s")[1]
    guess = {**end["data"], "usage_source": "estimate"}
    other = {**guess, "usage": {"input_tokens": 1, "output_tokens": 1}}
    ends = [event("stream-end", data, time=STARTED) for data in (guess, other)]
    assert bill(api, [stream("s")[0], *ends])["state"] == "conflicting"
    assert bill(api, stream("s"))["cost_usd_cents"] == "0.4985"


@pytest.mark.parametrize(
    ("stream_id", "body", "status", "detail"),
    [
        ("well", {"action": "write_off", **REASON}, 409, "it is not in the backlog"),
        ("nowhere", {"action": "write_off", **REASON}, 404, "has no stream"),
        ("unpriced", {"action": "bill_as_is", **REASON}, 422, "action"),
        ("orphaned", {"action": "bill_as_is", **REASON}, 422, "action"),
        ("unpriced", {"action": "write_off", "reason": " "}, 422, "reason"),
        ("unpriced", {"action": "write_off"}, 422, "reason"),
        ("unpriced", {"action": "forget", **REASON}, 422, "action"),
    ],
)
def test_an_impossible_resolution_is_refused(
    api: Api, stream_id: str, body: dict[str, str], status: int, detail: str
) -> None:
    fill(api)
    answer = api.client.post(f"/v1/streams/acme/{stream_id}/resolution", json=body)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_only_an_admin_decides_and_a_bound_reader_sees_only_its_own(api: Api) -> None:
    fill(api)
    with api.client_with(Role.READ, "bolt") as bound:
        assert bound.get("/v1/backlog").json()["data"] == []
        assert bound.get("/v1/backlog?customer_id=acme").status_code == 403
        body = {"action": ResolutionAction.WRITE_OFF.value, **REASON}
        assert bound.post("/v1/streams/acme/unpriced/resolution", json=body).status_code == 403
