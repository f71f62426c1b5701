"""The page of streams: chips and what exists to choose, a stream beside the list; and the page of a stream."""

import re
from decimal import Decimal
from html import unescape

import pytest

from metering.access.scopes import Role
from metering.ledger.entries import charge_id_of
from tests.builders.seeded import OPEN, Seeded
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import amounts_of, links_of, rows_of


def chips(page: str) -> dict[str, str]:
    """The filters that are set, with the address without each."""
    found = re.findall(r'<span class="chip">(.*?)<a href="([^"]+)"', page)
    return {re.sub("<[^>]+>", "", text): unescape(href) for text, href in found}


def headings(page: str) -> list[str]:
    table = page[page.index('id="streams"') :]
    return re.findall(r'<th scope="col"[^>]*>([^<]*)<', table[: table.index("</thead>")])


def first_row(browser: Browser, **query: str) -> dict[str, str]:
    return rows_of(browser.get("streams", csv="streams", **query).text)[0]


def test_filters_are_chips_that_can_be_removed_one_by_one(admin: Browser, seeded: Seeded) -> None:
    query = {"customer_id": "umbrella", "outcome": "cancelled,abandoned", "retry": "false", "month": seeded.period}
    page = admin.get("streams", **query).text
    found = chips(page)
    assert list(found) == [
        "Customer is Umbrella Robotics", "Outcome is cancelled or abandoned", "Retry is no"
    ]  # fmt: skip
    for name, href in zip(("customer_id", "outcome", "retry"), found.values(), strict=True):
        assert f"{name}=" not in href
        assert f"month={seeded.period}" in href
        assert len(chips(admin.http.get(href).text)) == 2
    assert chips(admin.get("streams", no_key="1").text) == {"API key is none": "/dashboard/streams"}


def test_the_total_is_of_the_filtered_streams(admin: Browser, seeded: Seeded) -> None:
    query = {"customer_id": "umbrella", "outcome": "cancelled", "month": seeded.period}
    rows = rows_of(admin.get("streams", csv="streams", **query).text)
    page = admin.get("streams", **query).text
    assert amounts_of(page)[0].usd == sum(Decimal(row["cost_usd"]) for row in rows) > 0
    assert f"{len(rows)} streams, " in re.sub("<[^>]+>", "", page)


def test_a_column_that_a_filter_fixes_is_left_out_of_the_page_and_not_of_the_file(
    admin: Browser, seeded: Seeded
) -> None:
    every = ["Time", "Customer", "Cost", "Model", "Tokens in", "→ cached", "→ out", "State", "Duration"]
    month = {"month": seeded.period}
    assert headings(admin.get("streams", **month).text) == every
    fixed = {"Customer": {"customer_id": "umbrella"}, "Model": {"model": "gpt-5.5"},
             "State": {"outcome": "completed"}}  # fmt: skip
    for name, query in fixed.items():
        assert headings(admin.get("streams", **query, **month).text) == [each for each in every if each != name]
    row = first_row(admin, customer_id="umbrella", model="gpt-5.5", **month)
    assert (row["customer_id"], row["model"]) == ("umbrella", "gpt-5.5")
    assert Decimal(row["duration_seconds"]) >= 0
    assert row["stream_id"]


def test_costs_of_a_column_have_four_digits(admin: Browser, seeded: Seeded) -> None:
    page = admin.get("streams", month=seeded.period).text
    shown = [each.shown for each in amounts_of(page)[1:]]
    assert len(shown) == 50
    assert all(re.fullmatch(r"<?-?\$[\d,]+\.\d{4}", each) for each in shown), shown


def options(browser: Browser, field: str, words: str = "", **query: str) -> list[str]:
    page = browser.get("streams/suggestions", field=field, **{**query, field: words}).text
    return re.findall(r'<option value="([^"]*)">', page)


def test_filters_suggest_what_exists(admin: Browser) -> None:
    for words in ("umb", "ROBOT", "Umbrella Rob"):
        assert options(admin, "customer_id", words) == ["umbrella"]
    assert "claude-opus-4.7" in options(admin, "model", "OPUS")
    assert options(admin, "provider", "anth") == ["anthropic"]
    assert options(admin, "api_key_id") == []
    used = {row["api_key_id"] for row in rows_of(admin.get("streams", customer_id="umbrella", csv="streams").text)}
    assert used - {""} <= set(options(admin, "api_key_id", customer_id="umbrella"))
    assert admin.http.get("/dashboard/streams/suggestions?field=tags").status_code == 422


def test_a_customer_gets_suggestions_of_its_own_only(bound: Browser, admin: Browser) -> None:
    assert options(bound, "customer_id", "umb") == []
    assert set(options(bound, "model")) <= set(options(admin, "model", customer_id="hooli"))
    assert bound.http.get("/dashboard/streams/suggestions?field=model&customer_id=umbrella").status_code == 404
    page = bound.get("streams").text
    assert "Customer" not in headings(page)
    assert 'name="customer_id"' not in page.split("<main")[1]


def test_a_name_in_place_of_an_id_leads_to_the_customers_that_it_may_mean(admin: Browser) -> None:
    page = admin.get("streams", customer_id="umbr").text
    assert "No customer has exactly this ID" in page
    assert "/dashboard/streams?customer_id=umbrella" in links_of(page)
    assert "No customer has exactly" not in admin.get("streams", customer_id="umbrella").text


def test_filters_of_streams_in_progress_are_those_of_their_start(admin: Browser, seeded: Seeded) -> None:
    seeded.begin_stream("in-progress")
    assert "in-progress" in admin.get("streams", state="open", model="claude-opus-4.7").text
    page = admin.get("streams", state="open", model="gpt-5.5", outcome="completed").text
    assert "in-progress" not in page
    assert list(chips(page)) == ["State is in progress", "Model is gpt-5.5"]


def test_a_shared_address_opens_the_stream_beside_the_list(admin: Browser, seeded: Seeded) -> None:
    row = first_row(admin, month=seeded.period)
    opened = {"open_customer": row["customer_id"], "open_stream": row["stream_id"]}
    page = admin.get("streams", month=seeded.period, **opened).text
    assert '<dialog class="sheet" id="sheet"' in page
    assert "6/6 checks" in page
    assert "stream-start" in page
    closed = unescape(re.findall(r'<a class="close" href="([^"]+)"', page)[0])
    assert closed == f"/dashboard/streams?month={seeded.period}"
    assert "6/6 checks" not in admin.http.get(closed).text
    # Nothing else of the page leads to an address with the sheet.
    assert not [link for link in links_of(page) if "open_stream" in link]
    missing = admin.get("streams", open_customer="umbrella", open_stream="none").text
    assert 'id="sheet-body"></div>' in missing


def test_no_stream_of_another_customer_opens(bound: Browser, admin: Browser, seeded: Seeded) -> None:
    row = first_row(admin, customer_id="wonka", month=seeded.period)
    key = {"customer_id": "wonka", "stream_id": row["stream_id"]}
    assert bound.http.get("/dashboard/stream/sheet", params=key).status_code == 404
    page = bound.get("streams", open_customer="wonka", open_stream=row["stream_id"]).text
    assert 'id="sheet-body"></div>' in page
    assert "checks</span>" in admin.get("stream/sheet", **key).text


def test_the_page_of_a_stream_begins_with_its_figures_and_leads_to_rates_and_the_line(
    admin: Browser, seeded: Seeded
) -> None:
    row = first_row(admin, month=seeded.period, model="claude-opus-4.7", outcome="completed")
    key = {"customer_id": row["customer_id"], "stream_id": row["stream_id"]}
    page = admin.get("stream", **key).text
    figures = page[page.index('<dl class="figures">') : page.index("</dl>")]
    for name in ("Cost, final", "Model", "Tokens in", "→ cached", "→ out", "Duration"):
        assert name in figures
    assert f"{int(row['output_tokens']):,}" in figures
    links = links_of(page)
    assert any(link.startswith("/dashboard/rate?provider=anthropic&model=claude-opus") for link in links)
    (line,) = [link for link in links if link.startswith("/dashboard/invoice/entries?")]
    assert "Its entries sum to exactly this amount" in admin.http.get(line).text
    entries = rows_of(admin.http.get(f"{line}&csv=entries").text)
    assert charge_id_of(**key) in {entry["id"] for entry in entries}
    assert "data-copy" in page
    assert '\n  "type": "' in unescape(page)


def test_each_booking_leads_to_the_line_of_its_kind(admin: Browser, seeded: Seeded) -> None:
    """Charges, adjustments and credits of the seeded months, each to the line that has its entry."""
    followed: set[str] = set()
    for invoice in seeded.api.client.get("/v1/invoices", params={"period": seeded.period}).json()["data"]:
        for line in links_of(admin.get("invoice", invoice_id=invoice["number"]).text):
            if not line.startswith("/dashboard/invoice/entries?"):
                continue
            kind = unescape(line).split("line=")[1].split("%2F")[0]
            entry = rows_of(admin.http.get(f"{line}&csv=entries").text)[0]
            if kind in followed or not entry["stream_id"]:
                continue
            page = admin.get("stream", customer_id=invoice["customer_id"], stream_id=entry["stream_id"]).text
            assert line in links_of(page), kind
            followed.add(kind)
    assert "usage" in followed


@pytest.mark.parametrize("suffix", [":start", ":end", ":t:3"])
def test_an_event_is_found_by_the_id_that_an_emitter_gives_it(admin: Browser, suffix: str) -> None:
    assert f"/dashboard/stream?customer_id=hooli&stream_id={OPEN}" in links_of(
        admin.get("search", q=f"{OPEN}{suffix}").text
    )


def test_charges_and_adjustments_are_found_by_their_ids(admin: Browser, seeded: Seeded) -> None:
    row = first_row(admin, customer_id="umbrella", month=seeded.period)
    key = {"customer_id": "umbrella", "stream_id": row["stream_id"]}
    link = f"/dashboard/stream?customer_id=umbrella&stream_id={row['stream_id']}"
    page = admin.get("search", q=charge_id_of(**key)).text
    assert link in links_of(page[page.index("<main") :])
    booked = seeded.api.client.get("/v1/adjustments").json()["data"][0]
    page = admin.get("search", q=booked["adjustment_id"]).text
    assert booked["adjustment_id"] in page[page.index("Charges and adjustments") :]
    other = browse(seeded.api, Role.READ, customer_id="hooli")
    assert "Nothing is called like this" in other.get("search", q=charge_id_of(**key)).text
