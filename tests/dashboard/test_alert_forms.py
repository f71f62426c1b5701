"""Alerts by forms: created, changed, muted and deleted; errors beside their field, and what was typed stays."""

import re
from typing import Any

import httpx2
import pytest

from metering.access.scopes import Role
from metering.alerts.alerts import AlertKind
from metering.dashboard.pages.alert import KINDS
from tests.builders.posted import stream
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import rows_of
from tests.running_api import Api

SPEND = {
    "kind": "spend",
    "name": "Budget of Acme",
    "scope": "customer",
    "customer_id": "acme",
    "thresholds": "50, 80%; 100",
    "budget": "$1,000.50",
}


@pytest.fixture
def admin(api: Api) -> Browser:
    api.post(stream("s"))
    return browse(api)


def send(browser: Browser, what: str, **fields: str) -> httpx2.Response:
    return browser.http.post(f"/dashboard/alert/{what}", data={"token": browser.token(), **fields})


def create(browser: Browser, **changes: str) -> str:
    """The id of a new alert."""
    answer = send(browser, "create", **{**SPEND, **changes})
    assert answer.status_code == 303, answer.text
    found = re.search(r"alert_id=(alr_\w+)", answer.headers["location"])
    assert found is not None
    return found[1]


def stored(api: Api, alert_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = api.client.get(f"/v1/alerts/{alert_id}").json()
    return answer


def test_an_alert_is_created_in_dollars_and_percent(api: Api, admin: Browser) -> None:
    alert = stored(api, create(admin))
    assert (alert["scope"], alert["customer_id"]) == ("customer", "acme")
    assert alert["thresholds"] == ["50", "80", "100"]
    assert alert["budget_usd_cents"] == "100050"
    assert alert["created_by"].startswith("key ")
    (logged,) = api.client.get("/v1/audit-log", params={"kind": "alert"}).json()["data"]
    assert (logged["action"], logged["subject"], logged["door"]) == ("create", alert["alert_id"], "dashboard")


@pytest.mark.parametrize(
    ("kind", "given", "stored_as"),
    [
        ("drift", {"thresholds": "0.01 $5"}, {"thresholds": ["1", "500"]}),
        ("backlog_age", {"thresholds": "4, 24"}, {"thresholds": ["4", "24"]}),
        ("price_change", {"thresholds": "1"}, {"thresholds": ["100"]}),
        ("inconsistent_usage", {"thresholds": "1"}, {"thresholds": ["1"]}),
        ("budget", {"thresholds": "80, 100%"}, {"thresholds": ["80", "100"], "unit": "percent_of_limit"}),
        ("balance_below", {"thresholds": "$50 0"}, {"thresholds": ["5000", "0"]}),
        ("estimated_share", {"thresholds": "10", "minimum": "5"}, {"floor_usd_cents": "500"}),
        (
            "daily_change",
            {"thresholds": "50, -50", "minimum": "5", "trailing_days": ""},
            {"thresholds": ["50", "-50"], "trailing_days": 7},
        ),
    ],
)
def test_each_kind_has_its_form(
    api: Api, admin: Browser, kind: str, given: dict[str, str], stored_as: dict[str, Any]
) -> None:
    page = admin.get("alert/new", kind=kind).text
    for name in given:
        assert f'name="{name}"' in page
    everything = {"kind": kind, "name": kind, "scope": "each_customer", "customer_id": "", "budget": "", **given}
    alert = stored(api, create(admin, **everything))
    assert {name: alert[name] for name in stored_as} == stored_as
    assert 'name="budget"' not in page


@pytest.mark.parametrize(
    ("field", "typed", "says"),
    [
        ("name", "", "expected 1 to 256 characters"),
        ("thresholds", "", "expected 1 to 10 numbers"),
        ("thresholds", "fifty", "expected a number"),
        ("thresholds", "50, 50", "expected each value once"),
        ("thresholds", "20000", "expected percent_of_budget from"),
        ("thresholds", "1,000", "write a space after a comma"),
        ("budget", "", "required for kind spend"),
        ("budget", "much", "expected a number"),
        ("budget", "-1", "expected cents above 0"),
        ("customer_id", "", "choose a customer"),
        ("customer_id", "nobody", "there is no customer"),
        ("scope", "moon", "choose one"),
    ],
)
def test_an_error_is_beside_its_field_and_what_was_typed_stays(
    api: Api, admin: Browser, field: str, typed: str, says: str
) -> None:
    answer = send(admin, "create", **{**SPEND, field: typed})
    assert answer.status_code == 422
    beside = re.search(rf'id="{field}-error" role="alert">([^<]*)<', answer.text)
    assert beside is not None, answer.text
    assert says in beside[1].replace("&#39;", "'")
    assert f'aria-describedby="{field}-error' in answer.text
    assert "Budget of Acme" in answer.text or field == "name"
    assert f'value="{typed}"' in answer.text or field == "scope"
    assert api.client.get("/v1/alerts").json()["data"] == []


def test_a_balance_cannot_be_watched_for_all_customers_together(api: Api, admin: Browser) -> None:
    together = '<option value="deployment"'
    assert together in admin.get("alert/new", kind="budget").text
    assert together not in admin.get("alert/new", kind="balance_below").text
    fields = {"kind": "balance_below", "scope": "deployment", "customer_id": "", "budget": "", "thresholds": "5"}
    answer = send(admin, "create", **{**SPEND, **fields})
    assert answer.status_code == 422
    beside = re.search(r'id="scope-error" role="alert">([^<]*)<', answer.text)
    assert beside is not None
    assert "expected customer or each_customer" in beside[1]
    assert api.client.get("/v1/alerts").json()["data"] == []


def test_no_kind_is_without_a_form() -> None:
    assert set(KINDS) == set(AlertKind)


def test_an_alert_is_changed_and_an_error_keeps_what_it_was(api: Api, admin: Browser) -> None:
    alert_id = create(admin)
    page = admin.get("alert", alert_id=alert_id).text
    assert 'value="50, 80, 100"' in page
    assert 'value="1000.5"' in page
    fields = {"alert_id": alert_id, "name": "Budget", "thresholds": "90", "budget": "2000"}
    assert send(admin, "change", **fields).status_code == 303
    alert = stored(api, alert_id)
    assert (alert["name"], alert["thresholds"], alert["budget_usd_cents"]) == ("Budget", ["90"], "200000")
    refused = send(admin, "change", **{**fields, "budget": ""})
    assert (refused.status_code, 'id="budget-error"' in refused.text) == (422, True)
    assert stored(api, alert_id)["budget_usd_cents"] == "200000"


def test_an_alert_is_muted_and_unmuted_and_deleted_only_when_that_is_ticked(api: Api, admin: Browser) -> None:
    alert_id = create(admin)
    assert send(admin, "mute", alert_id=alert_id, enabled="no").status_code == 303
    assert not stored(api, alert_id)["enabled"]
    assert 'data-state="muted"' in admin.get("alerts").text
    assert send(admin, "mute", alert_id=alert_id, enabled="yes").status_code == 303
    assert stored(api, alert_id)["enabled"]
    assert send(admin, "delete", alert_id=alert_id).status_code == 422
    assert send(admin, "delete", alert_id=alert_id, confirm="yes").status_code == 303
    assert api.client.get(f"/v1/alerts/{alert_id}").status_code == 404
    for what in ("change", "mute", "delete"):
        gone = send(admin, what, alert_id=alert_id, confirm="yes", name="x", thresholds="1")
        assert gone.status_code == 404
    actions = [row["action"] for row in api.client.get("/v1/audit-log", params={"kind": "alert"}).json()["data"]]
    assert actions == ["delete", "change", "change", "create"]


def test_a_reader_sees_an_alert_without_forms_and_sends_none(api: Api, admin: Browser) -> None:
    alert_id = create(admin)
    reader = browse(api, Role.READ)
    page = reader.get("alert", alert_id=alert_id).text
    assert "Budget of Acme" in page
    assert "<button>Save" not in page
    assert send(reader, "mute", alert_id=alert_id).status_code == 403
    assert reader.http.get("/dashboard/alert/new").status_code == 403
    other = browse(api, Role.READ, "bolt")
    assert other.http.get(f"/dashboard/alert?alert_id={alert_id}").status_code == 404


def test_the_file_of_alerts_has_numbers_and_units(admin: Browser) -> None:
    create(admin)
    drift = {"kind": "drift", "name": "Drift", "scope": "deployment", "customer_id": "", "budget": ""}
    create(admin, **drift, thresholds="0.01")
    rows = rows_of(admin.get("alerts", csv="alerts").text)
    found = {(row["name"], row["threshold"], row["unit"], row["budget_usd"], row["customer_id"]) for row in rows}
    assert found == {
        *(("Budget of Acme", each, "percent_of_budget", "1000.5", "acme") for each in ("50", "80", "100")),
        ("Drift", "0.01", "usd", "", ""),
    }
