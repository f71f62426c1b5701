"""The range of a page: a month, or days by its calendar; compared with what is before, or with nothing."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from metering.dashboard.ranges import Days
from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser
from tests.dashboard.reading import amounts_of, links_of, rows_of


def button(page: str) -> str:
    """The text of the range button."""
    return page.split('<div class="ranges">')[1].split("<summary>")[1].split("<span>")[1].split("</span>")[0]


def choice(page: str, title: str) -> str:
    """The address of a choice in the menu of ranges."""
    menu = page.split('<div class="ranges">')[1].split("</details>")[0]
    (found,) = [each for each in menu.split("<a ")[1:] if f">{title}</a>" in each]
    return found.split('href="')[1].split('"')[0].replace("&amp;", "&")


@pytest.mark.parametrize(
    ("title", "days"), [("Today", 1), ("Last 7 days", 7), ("Last 30 days", 30)], ids=["today", "7", "30"]
)
@pytest.mark.parametrize("path", ["", "models", "customers", "streams"])
def test_a_preset_shows_the_days_up_to_today(
    admin: Browser, seeded: Seeded, path: str, title: str, days: int
) -> None:
    page = admin.http.get(choice(admin.get(path).text, title)).text
    first = seeded.now.date() - timedelta(days=days - 1)
    expected = f"{first}" if days == 1 else f"{first} to {seeded.now.date()}"
    assert button(page) == f"{title}: {expected}"
    assert f'name="first" value="{first}"' in page
    assert f'name="last" value="{seeded.now.date()}"' in page


def test_days_are_those_of_the_api_the_last_one_included(admin: Browser, seeded: Seeded) -> None:
    first, last = f"{seeded.period}-03", f"{seeded.period}-09"
    query = {"first": first, "last": last}
    bounds = {"from": f"{first}T00:00:00Z", "to": f"{seeded.period}-10T00:00:00Z"}
    (answer,) = seeded.api.client.get("/v1/totals", params=bounds).json()["data"]
    expected = Decimal(answer["cost_usd_cents"]).scaleb(-2)
    assert expected > 0
    for path, table, column in (("", "outcomes", "cost_usd"), ("", "cost-by-day", "total_usd"),
                                ("models", "models", "cost_usd"), ("customers", "customers", "cost_usd"),
                                ("streams", "streams", "cost_usd")):  # fmt: skip
        rows = rows_of(admin.get(path, csv=table, **query).text)
        assert sum(Decimal(row[column]) for row in rows) == expected, (path, table)
    assert len(rows_of(admin.get("", csv="cost-by-day", **query).text)) == 7
    assert amounts_of(admin.get("streams", **query).text)[0].usd == expected


def test_days_of_a_customer_are_those_of_its_calendar(admin: Browser, seeded: Seeded) -> None:
    query = {"customer_id": "tyrell", "first": f"{seeded.period}-03", "last": f"{seeded.period}-09"}
    page = admin.get("customer", **query).text
    bounds = {"from": f"{seeded.period}-02T15:00:00Z", "to": f"{seeded.period}-09T15:00:00Z"}
    (answer,) = seeded.api.client.get("/v1/totals", params={"customer_id": "tyrell", **bounds}).json()["data"]
    expected = Decimal(answer["cost_usd_cents"]).scaleb(-2)
    assert amounts_of(page)[0].usd == expected > 0
    assert amounts_of(admin.get("streams", **query).text)[0].usd == expected
    assert "Days and months are in Asia/Tokyo" in admin.get("streams", **query).text


def test_each_sum_of_some_days_leads_to_streams_that_sum_to_it(admin: Browser, seeded: Seeded) -> None:
    followed = 0
    query = {"first": f"{seeded.period}-03", "last": f"{seeded.period}-09"}
    for amount in amounts_of(admin.get("", **query).text):
        if amount.href and amount.href.startswith("/dashboard/streams?") and "state=open" not in amount.href:
            assert amounts_of(admin.http.get(amount.href).text)[0].usd == amount.usd, amount
            followed += 1
    assert followed > 8


def test_days_are_compared_with_those_before_the_month_before_or_nothing(admin: Browser, seeded: Seeded) -> None:
    query = {"first": f"{seeded.now:%Y-%m}-01", "last": f"{seeded.now:%Y-%m}-05", "csv": "models"}
    before = rows_of(admin.get("models", **query).text)
    month = rows_of(admin.get("models", compare="month", **query).text)
    assert sum(Decimal(row["before_usd"]) for row in before) != sum(Decimal(row["before_usd"]) for row in month)
    assert "before_usd" not in rows_of(admin.get("models", compare="none", **query).text)[0]
    page = admin.get("", compare="none").text
    assert "from the same days" not in page
    for title, says in (("The month before", "from the same days of"), ("Nothing", "Month to date, final")):
        assert says in admin.http.get(choice(page, title)).text


def test_a_range_of_days_has_no_forecast_and_no_invoice(admin: Browser, seeded: Seeded) -> None:
    page = admin.get("", first=f"{seeded.period}-03", last=f"{seeded.period}-09").text
    assert "Forecast" not in page
    assert "From final to invoiced" not in page
    assert "Invoiced" not in page
    assert "Invoiced" in admin.get("", month=seeded.period).text


def test_old_addresses_go_on_working(admin: Browser, seeded: Seeded) -> None:
    by_month = admin.get("", month=seeded.period, csv="outcomes").text
    assert admin.get("", period=seeded.period, csv="outcomes").text == by_month
    days = {"from": f"{seeded.period}-03", "to": f"{seeded.period}-10"}
    dates = {"first": f"{seeded.period}-03", "last": f"{seeded.period}-09"}
    page = admin.get("streams", **days).text
    assert amounts_of(page)[0].usd == amounts_of(admin.get("streams", **dates).text)[0].usd > 0
    assert button(page) == f"{seeded.period}-03 to {seeded.period}-09"
    times = {"from": f"{seeded.period}-03T10:00:00Z", "to": f"{seeded.period}-03T12:30:00Z"}
    assert button(admin.get("streams", **times).text).endswith("-03 12:30 UTC")


def test_a_choice_of_a_range_keeps_the_filters_and_drops_the_range_before(admin: Browser, seeded: Seeded) -> None:
    page = admin.get("streams", customer_id="umbrella", month=seeded.period, outcome="completed").text
    link = choice(page, "Last 7 days")
    assert "customer_id=umbrella" in link
    assert "outcome=completed" in link
    assert "month=" not in link
    assert 'type="hidden" name="customer_id" value="umbrella"' in page
    earlier = [each for each in links_of(page) if "month=" in each and "csv=" not in each]
    assert any("customer_id=umbrella" in each for each in earlier)


WRONG = {
    "?range=year": "range: ",
    "?first=yesterday": "first: expected a date",
    "?first=0001-01-01": "first: expected a date from 1970 on",
    "?first=2026-10-09&last=2026-10-03": "is after the last day",
    "?first=9000-01-01&last=9000-01-02": "has not begun",
    "?first=1980-01-01": "at most 400 days",
    "?compare=everything": "compare: ",
    "streams?last=2026-02-30": "last: expected a date",
}


@pytest.mark.parametrize("path", WRONG)
def test_a_range_without_sense_is_answered_with_what_is_wrong(admin: Browser, path: str) -> None:
    answer = admin.http.get(f"/dashboard/{path}")
    assert answer.status_code == 422
    assert WRONG[path] in answer.text.replace("&#39;", "'")


def test_the_days_a_month_earlier_are_as_many_and_begin_on_the_same_day_or_the_last_one() -> None:
    assert Days(date(2026, 3, 31), date(2026, 4, 2)).month_earlier == Days(date(2026, 2, 28), date(2026, 3, 2))
    assert Days(date(2026, 1, 5), date(2026, 1, 11)).month_earlier == Days(date(2025, 12, 5), date(2025, 12, 11))
    assert Days(date(2026, 1, 5), date(2026, 1, 11)).before == Days(date(2025, 12, 29), date(2026, 1, 4))
