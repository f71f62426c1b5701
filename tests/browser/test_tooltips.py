"""What a text means exactly: on hover, by keyboard and by touch."""

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.pages import Dashboard, sign_in
from tests.builders.seeded import Seeded

pytestmark = pytest.mark.long


def tip(page: Page) -> Locator:
    return page.get_by_role("tooltip")


def test_an_amount_is_told_exactly_on_hover_and_no_longer_when_the_pointer_leaves(dashboard: Dashboard) -> None:
    page = dashboard.open("models")
    page.locator("#models tbody td data").first.hover()
    expect(tip(page)).to_contain_text("exactly")
    page.get_by_role("heading", level=1).hover()
    expect(tip(page)).to_be_hidden()


def test_the_keyboard_stops_at_a_table_once_and_arrows_lead_from_figure_to_figure(
    dashboard: Dashboard, seeded: Seeded
) -> None:
    page = dashboard.open(f"invoices?month={seeded.period}")
    stops = page.locator('#invoices tbody [data-tip][tabindex="0"]')
    expect(stops).to_have_count(1)
    stops.focus()
    first = tip(page).text_content()
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
        expect(tip(page)).not_to_have_text(first or "")
        expect(tip(page)).to_be_visible()
        first = tip(page).text_content()
    expect(stops).to_have_count(1)
    focused = page.locator("#invoices tbody [data-tip]:focus")
    expect(focused).to_have_attribute("aria-describedby", "tip")
    page.keyboard.press("Escape")
    expect(tip(page)).to_be_hidden()


def test_a_link_with_an_amount_tells_it_when_the_keyboard_comes_to_it(dashboard: Dashboard) -> None:
    page = dashboard.open("")
    linked = page.locator(".headline a:has(data)").first
    linked.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(tip(page)).to_contain_text("exactly")


def test_a_finger_opens_it_and_one_elsewhere_closes_it(chromium: Browser, seeded: Seeded) -> None:
    found = sign_in(chromium, seeded, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = found.open(f"invoices?month={seeded.period}")
    page.locator("#invoices tbody [data-tip][tabindex]").first.tap()
    expect(tip(page)).to_be_visible()
    box = tip(page).bounding_box()
    assert box is not None
    assert 0 <= box["x"] <= box["x"] + box["width"] <= 390
    page.get_by_role("heading", level=1).tap()
    expect(tip(page)).to_be_hidden()
    assert found.errors == []
    page.context.close()


def test_times_of_a_page_that_reloads_itself_say_how_long_ago_and_their_time_on_request(
    dashboard: Dashboard, seeded: Seeded
) -> None:
    seeded.begin_stream("seconds-old")
    page = dashboard.open("streams?state=open")
    shown = page.locator("#streams tbody time").first
    expect(shown).to_have_text(re.compile(r" (seconds?|minutes?) ago$|^just now$"))
    shown.hover()
    expect(tip(page)).to_contain_text("UTC")
    with page.expect_response("**/dashboard/streams?state=open"):
        page.mouse.move(0, 0)
    shown.hover()
    expect(tip(page)).to_contain_text("UTC")
