"""Pages of a real browser on the dashboard."""

import shutil

from playwright.sync_api import Browser, Page

from metering.access.scopes import Role
from tests.builders.seeded import Seeded

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


def sign_in(chromium: Browser, seeded: Seeded, **options: object) -> Dashboard:
    """A new context of the browser, signed in by the form with an admin key."""
    with seeded.api.client_with(Role.ADMIN) as client:
        key = client.headers["authorization"].removeprefix("Bearer ")
    context = chromium.new_context(**options)  # type: ignore[arg-type]
    dashboard = Dashboard(context.new_page(), seeded.api.url)
    dashboard.page.set_default_timeout(60_000)
    page = dashboard.open("")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/")
    return dashboard
