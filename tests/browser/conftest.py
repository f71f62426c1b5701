"""A real browser, Debian's chromium, on a seeded dashboard. Without one these tests are left out; that is said."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from metering.access.store.keys import Role
from tests.dashboard.conftest import seeded  # noqa: F401
from tests.dashboard.seeding import Seeded

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

if CHROMIUM is None:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return None if CHROMIUM else "no chromium here: tests/browser is left out"


# Not for the session: while it runs, no other test of this process may use asyncio.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser, on a profile of its own that goes with it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Dashboard:
    """A page of the browser, signed in, that fails a test on any error in its console."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str) -> Page:
        """Go to a page of the dashboard."""
        self.page.goto(f"{self.url}/dashboard/{path}")
        return self.page


def sign_in(chromium: Browser, seeded: Seeded, **options: object) -> Dashboard:  # noqa: F811
    """A new context of the browser, signed in by the form with an admin key."""
    with seeded.api.client_with(Role.ADMIN) as client:
        key = client.headers["authorization"].removeprefix("Bearer ")
    context = chromium.new_context(**options)  # type: ignore[arg-type]
    dashboard = Dashboard(context.new_page(), seeded.api.url)
    page = dashboard.open("")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/")
    return dashboard


@pytest.fixture
def dashboard(chromium: Browser, seeded: Seeded) -> Iterator[Dashboard]:  # noqa: F811
    """Signed in at the overview, on a desk."""
    found = sign_in(chromium, seeded, viewport={"width": 1440, "height": 900}, accept_downloads=True)
    yield found
    assert found.errors == []
    found.page.context.close()
