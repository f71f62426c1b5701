"""Figures: what a page shows is what the API says; each sum leads to rows that sum to it, also in files."""

import re
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from metering.access.scopes import Role
from metering.core.money import EXACT
from metering.core.period import BillingPeriod
from tests.builders.seeded import CONFLICTING, OPEN, UNPRICED, Seeded
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import amounts_of, links_of, rows_of

PAGES = (
    "", "customers", "customer?customer_id=hooli", "customer?customer_id=nakatomi", "models", "streams",
    "streams?state=open", f"streams?q={OPEN}", "invoices", "drift", "backlog", "rates", "system", "alerts",
    "alert/new", "webhook/new", f"settle?customer_id=hooli&stream_id={CONFLICTING}",
    f"settle?customer_id=hooli&stream_id={UNPRICED}&action=write_off&reason=x",
    "rate?provider=anthropic&model=claude-opus-4-7", f"stream?customer_id=hooli&stream_id={OPEN}",
    f"stream?customer_id=hooli&stream_id={UNPRICED}", f"stream?customer_id=hooli&stream_id={CONFLICTING}",
    "credits", "credits?customer_id=hooli", "budgets",
)  # fmt: skip


def usd(cents: str) -> Decimal:
    return EXACT.scaleb(Decimal(cents), -2)


def total(seeded: Seeded, **query: Any) -> Decimal:
    """What the API says of this month."""
    answer = seeded.api.client.get(f"/v1/totals/months/{seeded.now:%Y-%m}", params=query)
    rows = answer.json()["data"]
    return sum((usd(row["cost_usd_cents"]) for row in rows), Decimal(0))


@pytest.mark.parametrize("path", PAGES)
def test_no_amount_is_shown_as_nothing_when_it_is_something(admin: Browser, path: str) -> None:
    for amount in amounts_of(admin.get(path).text):
        assert (amount.shown.strip("-$0.,") == "") == (amount.usd == 0), amount


@pytest.fixture(scope="module")
def followed() -> set[str]:
    """Links that lead to a page; many are on several pages."""
    return set()


@pytest.mark.parametrize("path", PAGES)
def test_every_link_of_a_page_leads_to_a_page(admin: Browser, followed: set[str], path: str) -> None:
    ours = {link for link in links_of(admin.get(path).text) if link.startswith("/")}
    assert len(ours) > 9
    for link in ours - followed:
        assert admin.http.get(link).status_code == 200, link
        followed.add(link)


@pytest.mark.parametrize("path", ["?", "customer?customer_id=hooli", "models?", "customers?"])
@pytest.mark.parametrize("which", ["this", "last"])
def test_each_sum_leads_to_streams_that_sum_to_it(admin: Browser, seeded: Seeded, path: str, which: str) -> None:
    followed = 0
    month = seeded.period if which == "last" else f"{seeded.now:%Y-%m}"
    for amount in amounts_of(admin.get(f"{path}&month={month}").text):
        if amount.href and amount.href.startswith("/dashboard/streams?") and "state=open" not in amount.href:
            page = amounts_of(admin.http.get(amount.href).text)
            assert page[0].usd == amount.usd, amount
            followed += 1
    assert followed >= (8 if which == "last" else 1)


def test_the_streams_of_a_sum_can_be_added_up(admin: Browser, seeded: Seeded) -> None:
    links = links_of(admin.get("", month=seeded.period).text)
    link = next(each for each in links if "usage_source=estimate" in each and "outcome" not in each)
    page = admin.http.get(link)
    rows = rows_of(admin.http.get(f"{link}&csv=streams").text)
    assert len(rows) > 20
    assert sum(Decimal(row["cost_usd"]) for row in rows) == amounts_of(page.text)[0].usd
    assert {row["usage_source"] for row in rows} == {"estimate"}


def test_the_overview_says_what_the_api_says(admin: Browser, seeded: Seeded) -> None:
    rows = rows_of(admin.get("", csv="outcomes").text)
    assert sum(Decimal(row["cost_usd"]) for row in rows) == total(seeded)
    days = rows_of(admin.get("", csv="cost-by-day").text)
    assert sum(Decimal(row["total_usd"]) for row in days) == total(seeded)
    assert all(
        Decimal(row["total_usd"]) == sum(Decimal(row[name]) for name in row if name not in ("day", "total_usd"))
        for row in days
    )
    assert len(days) == seeded.now.day


@pytest.mark.parametrize("name", ["top", "models", "keys", "outcomes"])
def test_a_share_is_of_the_whole_month(admin: Browser, seeded: Seeded, name: str) -> None:
    rows = rows_of(admin.get("", month=seeded.period, csv="outcomes").text)
    whole = sum(Decimal(row["cost_usd"]) for row in rows)
    for row in rows_of(admin.get("", month=seeded.period, csv=name).text):
        assert Decimal(row["share"]) == (Decimal(row["cost_usd"]) / whole).quantize(Decimal("0.000001"))


def test_all_customers_sum_to_the_month(admin: Browser, seeded: Seeded) -> None:
    rows = rows_of(admin.get("customers", csv="customers").text)
    assert sum(Decimal(row["cost_usd"]) for row in rows) == total(seeded)
    for row in rows:
        assert Decimal(row["cost_usd"]) == total(seeded, customer_id=row["customer_id"])
    costs = [Decimal(row["cost_usd"]) for row in rows]
    assert costs == sorted(costs, reverse=True)


def test_a_customers_days_are_those_of_its_calendar(admin: Browser, seeded: Seeded) -> None:
    page = admin.get("customer", customer_id="tyrell")
    assert "Days and months are in Asia/Tokyo" in page.text
    period = seeded.period
    days = rows_of(admin.get("customer", customer_id="tyrell", month=period, csv="cost-by-day").text)
    models = rows_of(admin.get("customer", customer_id="tyrell", month=period, csv="models").text)
    (invoice,) = seeded.api.client.get("/v1/invoices", params={"customer_id": "tyrell", "period": period}).json()[
        "data"
    ]
    booked = usd(invoice["exact_usd_cents"])
    assert sum(Decimal(row["total_usd"]) for row in days) == booked
    assert sum(Decimal(row["cost_usd"]) for row in models) == booked


def test_every_line_of_every_invoice_leads_to_entries_that_sum_to_it(admin: Browser, seeded: Seeded) -> None:
    invoices = rows_of(admin.get("invoices", month=seeded.period, csv="invoices").text)
    assert len(invoices) == 11
    followed = 0
    for link in links_of(admin.get("invoices", month=seeded.period).text):
        if link.startswith("/dashboard/invoice?"):
            for line in links_of(admin.http.get(link).text):
                if line.startswith("/dashboard/invoice/entries"):
                    page = admin.http.get(line)
                    assert "Its entries sum to exactly this amount" in page.text, line
                    followed += 1
    assert followed > 60


def test_an_invoice_shows_its_arithmetic(admin: Browser, seeded: Seeded) -> None:
    for row in rows_of(admin.get("invoices", month=seeded.period, csv="invoices").text):
        exact, carried, billed, left = (
            Decimal(row[f"{name}_usd"]) for name in ("exact", "carried_in", "billed", "remainder")
        )
        assert exact + carried == billed + left
        page = admin.get("invoice", invoice_id=row["number"]).text
        assert f"= ${billed:,.2f} +" in page
        lines = rows_of(admin.get("invoice", invoice_id=row["number"], csv="lines").text)
        assert sum(Decimal(line["exact_usd"]) for line in lines) == exact + carried
        assert sum(Decimal(line["billed_usd"]) for line in lines) == billed


def test_a_page_goes_on_to_the_next_until_every_stream_was_shown(admin: Browser, seeded: Seeded) -> None:
    seen: list[str] = []
    link: str | None = f"/dashboard/streams?customer_id=umbrella&month={seeded.period}"
    while link:
        page = admin.http.get(link).text
        seen += [each for each in links_of(page) if each.startswith("/dashboard/stream?")]
        more = [each for each in links_of(page) if "behind=" in each]
        link = more[0] if more else None
    streams = [parse_qs(urlsplit(each).query)["stream_id"][0] for each in seen]
    assert len(streams) == len(set(streams)) > 200
    rows = rows_of(admin.get("streams", customer_id="umbrella", month=seeded.period, csv="streams").text)
    assert [row["stream_id"] for row in rows] == streams


def test_a_receipt_and_a_statement_can_be_taken_along(admin: Browser, seeded: Seeded) -> None:
    row = rows_of(admin.get("streams", month=seeded.period, csv="streams").text)[0]
    key = {"customer_id": row["customer_id"], "stream_id": row["stream_id"]}
    receipt = admin.get("receipt.json", **key)
    api = seeded.api.client.get(f"/v1/streams/{row['customer_id']}/{row['stream_id']}/receipt").json()
    assert {**receipt.json(), "issued_at": None} == {**api, "issued_at": None}
    assert "attachment" in receipt.headers["content-disposition"]
    number = rows_of(admin.get("invoices", csv="invoices").text)[0]["number"]
    assert admin.get("statement.pdf", invoice_id=number).content.startswith(b"%PDF")
    assert "Usage statement" in admin.get("statement.html", invoice_id=number).text
    assert "✓ usage x rates gives the lines" in admin.get("stream", **key).text


def test_a_stream_under_way_shows_what_it_has_accrued_and_says_that_it_is_not_final(admin: Browser) -> None:
    page = admin.get("stream", customer_id="hooli", stream_id=OPEN).text
    assert "$0.00506" in page
    assert "not final" in page
    assert 'hx-trigger="every 2s"' in page
    assert [(each.usd, each.shown) for each in amounts_of(admin.get("streams", state="open").text)] == [
        (Decimal("0.00506"), "$0.0051")
    ]


def test_drift_that_is_left_is_on_the_first_page_and_on_its_own(admin: Browser) -> None:
    assert "Stripe differs by $0.30 in 1 finding" in admin.get("").text
    (row,) = rows_of(admin.get("drift", csv="drift").text)
    assert (row["drift_usd"], row["status"], row["drift_class"]) == ("0.3", "open", "line")
    assert Decimal(row["theirs_usd"]) - Decimal(row["ours_usd"]) == Decimal("0.3")
    links = links_of(admin.get("drift").text)
    assert any("/dashboard/invoice?" in each for each in links)
    assert any(each.startswith("http://127.0.0.1") for each in links)
    assert "$0.30" in admin.get("drift").text


def test_the_first_page_says_what_the_backlog_would_cost_as_far_as_that_is_known(admin: Browser) -> None:
    found = re.search(r"<span>(2 ended streams cannot be billed yet[^<]*)</span>", admin.get("").text)
    assert found is not None
    assert found[1].endswith("yet: $0.0051 as they are, without those whose cost is not known")


def test_the_footer_counts_ended_streams_that_wait_in_the_backlog(admin: Browser, empty: Browser) -> None:
    footer = admin.get("").text.split('<footer id="fresh"')[1]
    assert "Finalizing is up to date" in footer
    assert "2 ended streams</a> wait in the backlog" in footer
    assert "wait in the backlog" not in empty.get("").text


def test_a_customer_sees_the_same_page_and_figures_that_staff_see_of_it(admin: Browser, seeded: Seeded) -> None:
    with_key = browse(seeded.api, Role.READ, customer_id="tyrell")
    for month in (seeded.period, f"{seeded.now:%Y-%m}"):
        theirs = with_key.get("", month=month)
        ours = admin.get("customer", customer_id="tyrell", month=month)
        assert [amount.usd for amount in amounts_of(theirs.text)] == [
            amount.usd for amount in amounts_of(ours.text)
        ]
        (of_models, of_customer) = (
            rows_of(browser.get(path, month=month, csv="models", **query).text)
            for browser, path, query in ((with_key, "models", {}), (admin, "customer", {"customer_id": "tyrell"}))
        )
        assert [row["cost_usd"] for row in of_models] == [row["cost_usd"] for row in of_customer]


def test_months_by_utc_are_a_choice_and_are_those_of_totals(admin: Browser, seeded: Seeded) -> None:
    page = admin.get("", month=seeded.period)
    assert "Months are billing months" in page.text
    (choice,) = [link for link in links_of(page.text) if "calendar=utc" in link]
    by_utc = admin.http.get(choice)
    assert "Months and days are in UTC" in by_utc.text
    rows = rows_of(admin.http.get(f"{choice}&csv=outcomes").text)
    start, end = f"{seeded.period}-01T00:00:00Z", f"{BillingPeriod.parse(seeded.period).next}-01T00:00:00Z"
    (answer,) = seeded.api.client.get("/v1/totals", params={"from": start, "to": end}).json()["data"]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == usd(answer["cost_usd_cents"])
    assert admin.http.get("/dashboard/?calendar=moon").status_code == 422


@pytest.mark.parametrize(
    "path", ["?", "customer?customer_id=hooli", "customer?customer_id=tyrell", "?calendar=utc"]
)
def test_the_parts_between_final_and_invoiced_add_up(admin: Browser, seeded: Seeded, path: str) -> None:
    month = f"{path}&month={seeded.period}"
    rows = rows_of(admin.get(f"{month}&csv=bridge").text)
    page = admin.get(month).text
    table = page[page.index('id="bridge"') :]
    billed = amounts_of(table[table.index("<tfoot>") : table.index("</tfoot>")])[0].usd
    assert sum(Decimal(row["amount_usd"]) for row in rows) == billed > 0
    assert rows[0]["part"] == "Final cost of the month"
    assert ("Hours of time zones other than UTC" in page) == ("utc" in path)
    assert "From final to invoiced" not in admin.get(path).text
