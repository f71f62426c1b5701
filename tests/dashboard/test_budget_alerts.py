"""What fired about budgets and balances on the page of alerts, and where it leads."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from metering.access.scopes import Role
from metering.alerts.alerts import AlertKind
from metering.alerts.evaluate_alerts import evaluate_alerts
from tests.builders.posted import stream
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import links_of, rows_of
from tests.running_api import Api, bill

BUDGET, BELOW = AlertKind.BUDGET, AlertKind.BALANCE_BELOW


@pytest.fixture
def admin(api: Api) -> Browser:
    api.client.put("/v1/customers/acme", json={"time_zone": "Europe/Berlin"})
    return browse(api)


def fire(api: Api, kind: AlertKind, **terms: Any) -> None:
    given = {"name": f"About {kind}", "kind": kind, "scope": "customer", "customer_id": "acme", **terms}
    assert api.client.post("/v1/alerts", json=given).status_code == 201
    found = evaluate_alerts(engine=api.service.engine, kind=kind, every=timedelta(), now=datetime.now(UTC))
    assert found is not None
    assert found.occurrences > 0


def test_a_share_of_a_limit_names_its_budget_and_the_start_of_its_window(api: Api, admin: Browser) -> None:
    for budget_id, window in (("acme-daily", "day"), ("acme-ever", "total")):
        budget = {"scope": {"customer_id": "acme"}, "window": window, "limit_usd_cents": "0.997"}
        assert api.client.put(f"/v1/budgets/{budget_id}", json=budget).status_code == 200
    began = datetime.now(UTC) - timedelta(minutes=1)
    bill(api, stream("s", time=began.isoformat()))
    api.client.delete("/v1/budgets/acme-ever")
    fire(api, BUDGET, thresholds=["50"])
    (row,) = rows_of(admin.get("alerts", kind=BUDGET, csv="occurrences").text)
    day = (began + timedelta(seconds=4)).astimezone(ZoneInfo("Europe/Berlin")).date()
    assert row["window"] == f"acme-daily, from {day}"
    assert (row["threshold"], row["value"], row["unit"]) == ("50", "50", "percent_of_limit")
    page = admin.get("alerts", kind=BUDGET).text
    assert "/dashboard/budgets?customer_id=acme" in links_of(page)
    api.client.put("/v1/budgets/acme-ever", json={**budget, "limit_usd_cents": "0.9"})
    fire(api, BUDGET, thresholds=["55"])
    windows = {row["window"] for row in rows_of(admin.get("alerts", kind=BUDGET, csv="occurrences").text)}
    assert "acme-ever, all time" in windows


def test_a_low_balance_is_in_dollars_and_leads_to_the_grants(api: Api, admin: Browser) -> None:
    grant = {
        "customer_id": "acme",
        "amount_usd_cents": "1250",
        "paid_usd_cents": "0",
        "funding": "none",
        "reason": "Welcome",
    }
    assert api.client.post("/v1/grants", json=grant, headers={"idempotency-key": "k"}).status_code == 200
    fire(api, BELOW, thresholds=["2000"])
    (row,) = rows_of(admin.get("alerts", kind=BELOW, csv="occurrences").text)
    assert (row["window"], row["threshold"], row["value"], row["unit"]) == ("after 1 grant", "20", "12.5", "usd")
    page = admin.get("alerts", kind=BELOW).text
    assert "$12.50" in page
    assert "/dashboard/credits?customer_id=acme" in links_of(page)


def test_the_pages_of_budgets_and_credits_offer_an_alert_to_those_who_may_create_one(
    api: Api, admin: Browser
) -> None:
    reader = browse(api, Role.READ)
    for path, kind in (("budgets", BUDGET), ("credits", BELOW)):
        offered = f"/dashboard/alert/new?kind={kind}"
        assert offered in links_of(admin.get(path).text)
        assert offered not in links_of(reader.get(path).text)
        assert "Thresholds, in " in admin.http.get(offered).text
