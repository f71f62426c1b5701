"""The page of alerts: what occurred is explained by where it leads, and told to those whom it concerns."""

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser
from tests.dashboard.reading import links_of, rows_of


def occurrences(seeded: Seeded, kind: str) -> list[dict[str, Any]]:
    found = seeded.api.client.get("/v1/alert-occurrences", params={"kind": kind}).json()["data"]
    assert isinstance(found, list)
    return found


def test_what_occurred_leads_to_the_amount_that_reached_it(admin: Browser, seeded: Seeded) -> None:
    spends = occurrences(seeded, "spend")
    assert spends
    rows = rows_of(admin.get("alerts", kind="spend", csv="occurrences").text)
    assert [row["threshold"] for row in rows] == [each["threshold"] for each in spends]
    assert [row["value"] for row in rows] == [each["data"]["value"] for each in spends]
    assert {row["unit"] for row in rows} == {"percent_of_budget"}
    page = admin.get("alerts", kind="spend").text
    explained = next(link for link in links_of(page) if "customer?" in link and "month=" in link)
    days = rows_of(admin.http.get(f"{explained}&csv=cost-by-day").text)
    spent = sum(Decimal(row["total_usd"]) for row in days) * 100
    assert spent == Decimal(spends[0]["data"]["spend_usd_cents"])


def test_a_day_that_changed_leads_to_its_streams(admin: Browser, seeded: Seeded) -> None:
    each = max(occurrences(seeded, "daily_change"), key=lambda each: Decimal(each["data"]["day_usd_cents"]))
    assert Decimal(each["data"]["day_usd_cents"]) > 0
    links = links_of(admin.get("alerts", kind="daily_change").text)
    begins = urlencode({"from": each["data"]["window"]["starts_at"]})
    explained = next(link for link in links if begins in link and f"customer_id={each['customer_id']}" in link)
    rows = rows_of(admin.http.get(f"{explained}&csv=streams").text)
    spent = sum(Decimal(row["cost_usd"]) for row in rows) * 100
    assert spent == Decimal(each["data"]["day_usd_cents"])


def test_a_customer_sees_its_own_alerts_and_not_the_endpoints_of_others(bound: Browser, admin: Browser) -> None:
    assert "https://hooks.example.com" in admin.get("alerts").text
    text = bound.get("alerts").text
    assert "Budget of Hooli" in text
    assert "hooks.example.com" not in text
    assert "Guessed tokens" not in text
    assert bound.http.get("/dashboard/alerts?csv=endpoints").status_code == 404


def test_a_reader_is_not_shown_the_endpoints(reader: Browser) -> None:
    assert "hooks.example.com" not in reader.get("alerts").text


def test_the_state_of_each_delivery_is_shown(admin: Browser) -> None:
    rows = rows_of(admin.get("alerts", csv="occurrences").text)
    assert {row["deliveries"] for row in rows} == {"1 pending"}


def test_a_budget_shows_on_its_customers_page(admin: Browser) -> None:
    page = admin.get("customer", customer_id="hooli").text
    assert "% spent" in page
    assert "/dashboard/alerts?kind=spend&amp;customer_id=hooli" in page
