"""What a viewer prefers: the colours of pages, and the zone of times of day. Cookies keep it."""

import re

import pytest

from metering.access.scopes import Role
from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser, browse


@pytest.fixture
def viewer(seeded: Seeded) -> Browser:
    """A session whose cookies no other test sees."""
    return browse(seeded.api)


def choose(browser: Browser, **fields: str) -> None:
    form = {"token": browser.token(), "back": "/dashboard/streams?state=open", **fields}
    answer = browser.http.post("/dashboard/preferences", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/streams?state=open")


def footer(browser: Browser, path: str = "") -> str:
    return browser.get(path).text.split('<footer id="fresh"')[1].replace("’", "'")


def times(page: str) -> list[tuple[str, str, str]]:
    """(exact, on hover, shown) of each time of day in the main part of a page."""
    main = page[page.index("<main") : page.index("</main>")]
    return re.findall(r'<time datetime="([^"]+)" title="([^"]+)">([^<]+)</time>', main)


def test_the_server_renders_the_chosen_colours_on_every_page(viewer: Browser) -> None:
    assert "data-bs-theme" not in viewer.get("").text
    for theme in ("dark", "light"):
        choose(viewer, theme=theme)
        for path in ("", "streams", "keys"):
            page = viewer.get(path).text
            assert f'<html lang="en" data-bs-theme="{theme}"' in page
            assert f'<meta name="color-scheme" content="{theme}">' in page
        assert f'data-bs-theme="{theme}"' in viewer.http.get("/dashboard/sign-in").text
        assert f'data-bs-theme="{theme}"' in viewer.http.get("/dashboard/nowhere").text
    choose(viewer, theme="system")
    assert "data-bs-theme" not in viewer.get("").text


def test_times_are_in_utc_until_another_zone_is_chosen_and_say_their_zone_on_hover(viewer: Browser) -> None:
    assert "Times are in UTC." in footer(viewer)
    at, hover, shown = times(viewer.get("streams", range="30d").text)[0]
    assert hover.endswith(" UTC")
    assert shown == hover[:19] == at[:19].replace("T", " ")


def test_times_are_in_the_browsers_zone_if_it_is_known_here_and_in_the_database(viewer: Browser) -> None:
    choose(viewer, zone="mine")
    for unusable in (None, "Mars/Phobos", "localtime", "CET'; --", "x" * 300):
        if unusable is not None:
            viewer.http.cookies.set("metering_browser_zone", unusable, path="/dashboard")
        assert "Times are in UTC: the time zone of your browser is not known" in footer(viewer)
        viewer.http.cookies.delete("metering_browser_zone")
        viewer.http.cookies.set("metering_zone", "mine", path="/dashboard")
    viewer.http.cookies.set("metering_browser_zone", "Asia/Kathmandu", path="/dashboard")
    assert "Times are in Asia/Kathmandu, the time zone of your browser." in footer(viewer)
    assert "Months are billing months" in footer(viewer)
    at, hover, shown = times(viewer.get("streams", range="30d").text)[0]
    assert hover.startswith(f"{shown} Asia/Kathmandu (UTC+05:45)")
    assert hover.endswith(" UTC")
    assert shown != at[:19].replace("T", " ")


def test_each_customers_times_are_in_its_own_zone(viewer: Browser) -> None:
    choose(viewer, zone="customer")
    assert "Times are in each customer's time zone, others in UTC." in footer(viewer, "streams")
    page = viewer.get("streams", customer_id="tyrell").text
    assert all("Asia/Tokyo (UTC+09:00)" in hover for _, hover, _ in times(page))
    # A list that mixes zones has the offset of each time.
    mixed = {shown[-6:] for _, hover, shown in times(viewer.get("streams", range="30d").text)}
    assert {"+09:00", "+00:00"} <= mixed
    assert "Times are in Asia/Tokyo." in footer(viewer, "customer?customer_id=tyrell")


def test_a_customer_sees_its_own_zone_until_it_chooses_another(seeded: Seeded) -> None:
    bound = browse(seeded.api, Role.READ, customer_id="tyrell")
    assert "Times are in Asia/Tokyo." in footer(bound, "streams")
    assert "The account’s" in bound.get("streams").text
    assert times(bound.get("streams", range="30d").text)[0][1].split(",")[0].endswith("Asia/Tokyo (UTC+09:00)")
    choose(bound, zone="utc")
    assert "Times are in UTC." in footer(bound, "streams")


def test_a_preference_that_means_nothing_is_refused_and_leads_to_no_other_site(viewer: Browser) -> None:
    token = viewer.token()
    for wrong in ({"theme": "pink"}, {"zone": "Europe/Berlin"}):
        answer = viewer.http.post("/dashboard/preferences", data={"token": token, **wrong})
        assert answer.status_code == 422
    for elsewhere in ("https://example.com/", "//example.com", "/dashboard/\\example.com", "/v1/totals"):
        answer = viewer.http.post("/dashboard/preferences", data={"token": token, "back": elsewhere})
        assert answer.headers["location"] == "/dashboard/"
    refused = viewer.http.post("/dashboard/preferences", data={"token": "guessed", "theme": "dark"})
    assert refused.status_code == 403
