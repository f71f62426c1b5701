"""Streams in a real browser: the sheet beside the list and its address, filters, ranges, zone and colours."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import Dashboard, sign_in
from tests.builders.seeded import Seeded

pytestmark = pytest.mark.long


def open_first(page: Page) -> str:
    """Open the first stream of the list beside it, and return its id."""
    link = page.locator("#streams tbody th a").first
    stream_id = page.locator("#streams tbody th .under").first.inner_text()
    link.click()
    expect(page.locator("#sheet")).to_be_visible()
    expect(page.locator("#sheet-body .ids code").first).to_have_text(stream_id)
    return stream_id


def test_a_stream_opens_beside_the_list_and_escape_returns_to_its_row(
    dashboard: Dashboard, seeded: Seeded
) -> None:
    page = dashboard.open(f"streams?customer_id=umbrella&month={seeded.period}")
    before = page.url
    stream_id = open_first(page)
    assert f"open_stream={stream_id}" in page.url
    expect(page.locator("#sheet-body")).to_contain_text("6/6 checks")
    page.locator("#sheet details.event summary").first.click()
    expect(page.locator("#sheet details.event pre").first).to_contain_text('"type":')
    page.keyboard.press("Escape")
    expect(page.locator("#sheet")).to_be_hidden()
    page.wait_for_url(before)
    expect(page.locator("#streams tbody th a").first).to_be_focused()


def test_back_closes_the_sheet_forward_opens_it_and_its_address_can_be_shared(
    dashboard: Dashboard, seeded: Seeded
) -> None:
    page = dashboard.open(f"streams?customer_id=umbrella&month={seeded.period}")
    before = page.url
    stream_id = open_first(page)
    shared = page.url
    page.go_back()
    expect(page.locator("#sheet")).to_be_hidden()
    assert page.url == before
    page.go_forward()
    expect(page.locator("#sheet-body .ids code").first).to_have_text(stream_id)
    page.goto(shared)
    expect(page.locator("#sheet-body .ids code").first).to_have_text(stream_id)
    page.get_by_role("link", name="Close").click()
    expect(page.locator("#sheet")).to_be_hidden()
    page.wait_for_url(before)
    # A row opens it by a click anywhere but on a link to elsewhere.
    page.locator("#streams tbody tr").nth(1).locator("td").first.click()
    expect(page.locator("#sheet")).to_be_visible()
    page.get_by_role("link", name="Open its page").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Stream")


def test_without_scripts_a_row_leads_to_the_streams_page(chromium: Browser, seeded: Seeded) -> None:
    found = sign_in(chromium, seeded, java_script_enabled=False)
    page = found.open(f"streams?month={seeded.period}")
    page.locator("#streams tbody th a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Stream")
    found.page.context.close()


def test_a_filter_is_added_with_suggestions_and_removed_by_its_chip(dashboard: Dashboard) -> None:
    page = dashboard.open("streams?range=30d")
    page.get_by_text("Add filter").click()
    field = page.get_by_label("Customer")
    field.press_sequentially("robot")
    expect(page.locator("#known-customer_id option")).to_have_count(1, timeout=60_000)
    expect(page.locator("#known-customer_id option")).to_have_attribute("value", "umbrella")
    field.fill("umbrella")
    page.get_by_role("button", name="Apply").last.click()
    expect(page.locator(".chip")).to_have_text(re.compile("Customer is Umbrella Robotics"))
    assert "range=30d" in page.url
    assert "model=" not in page.url
    page.get_by_text("Add filter").click()
    page.get_by_label("Outcome").select_option("completed")
    expect(page.locator(".chip")).to_have_count(2)
    page.get_by_role("link", name="Remove the filter Customer").click()
    expect(page.locator(".chip")).to_have_text(re.compile("Outcome is completed"))


def test_a_range_applies_at_once(dashboard: Dashboard, seeded: Seeded) -> None:
    page = dashboard.open("")
    menu = page.locator(".ranges summary")
    menu.click()
    page.get_by_role("link", name="Last 7 days").click()
    expect(menu).to_contain_text("Last 7 days")
    menu.click()
    page.get_by_label("First day").fill(f"{seeded.period}-03")
    page.get_by_label("Last day").fill(f"{seeded.period}-09")
    expect(menu).to_contain_text(f"{seeded.period}-03 to {seeded.period}-09")
    menu.click()
    page.keyboard.press("Escape")
    expect(page.locator(".ranges .panel")).to_be_hidden()
    expect(menu).to_be_focused()


def test_times_follow_the_zone_of_the_browser_and_colours_the_switch(chromium: Browser, seeded: Seeded) -> None:
    found = sign_in(chromium, seeded, timezone_id="Asia/Tokyo", color_scheme="light")
    page = found.open(f"streams?month={seeded.period}")
    in_utc = page.locator("#streams tbody time").first.inner_text()
    page.get_by_label("Time zone: UTC").click()
    page.get_by_role("button", name="My browser’s").click()
    expect(page.locator("footer")).to_contain_text("Times are in Asia/Tokyo, the time zone of your browser")
    shown = page.locator("#streams tbody time").first
    assert shown.inner_text() != in_utc
    assert "Asia/Tokyo (UTC+09:00)" in (shown.get_attribute("data-tip") or "")
    assert f"month={seeded.period}" in page.url
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_label("Colours: system").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert found.errors == []
    found.page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1024, "dark"), (390, "dark")])
def test_sheet_and_menus_have_no_serious_accessibility_fault(
    chromium: Browser, seeded: Seeded, width: int, scheme: str
) -> None:
    found = sign_in(chromium, seeded, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = found.open(f"streams?customer_id=umbrella&month={seeded.period}")
    _no_serious_fault(page)
    for summary in (".ranges summary", ".chips summary", ".prefer summary >> nth=0", ".prefer summary >> nth=1"):
        page.locator(summary).click()
        _no_serious_fault(page)
        box = page.locator("details.drop[open] > .panel").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        page.keyboard.press("Escape")
    open_first(page)
    page.locator("#sheet details.event summary").first.click()
    _no_serious_fault(page)
    found.page.context.close()


def _no_serious_fault(page: Page) -> None:
    results = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [
        (each["id"], [node["html"][:200] for node in each["nodes"]][:3])
        for each in results
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert too_wide <= 0
