"""A real browser, Debian's chromium, on a seeded dashboard."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.pages import ARGUMENTS, CHROMIUM, Dashboard, sign_in
from tests.builders.seeded import Seeded
from tests.tools import need


# Not for the session: while it runs, no other test of this process may use asyncio.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser, on a profile of its own that goes with it."""
    need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def dashboard(chromium: Browser, seeded: Seeded) -> Iterator[Dashboard]:
    """Signed in at the overview, on a desk."""
    found = sign_in(chromium, seeded, viewport={"width": 1440, "height": 900}, accept_downloads=True)
    yield found
    assert found.errors == []
    found.page.context.close()
