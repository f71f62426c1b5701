"""Takes the pictures of the documentation: `python -m tests.browser.screenshots URL KEY FOLDER`.

URL and KEY are what `metering demo --keep` prints.
"""

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.pages import ARGUMENTS, CHROMIUM

DESK = {"width": 1360, "height": 860}


def main(url: str, key: str, folder: Path) -> None:
    """A picture of each page that the documentation shows."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = _signed_in(browser, url, key, viewport=DESK, color_scheme="light")
        page.screenshot(
            path=folder / "overview.png", clip={"x": 0, "y": 0, "width": 1360, "height": 1080}, full_page=True
        )
        page.goto(f"{url}/dashboard/streams?customer_id=globex&model=claude-opus-4.7")
        page.locator("#streams tbody th a").first.click()
        page.get_by_role("link", name="Open its page").click()
        page.screenshot(path=folder / "stream.png", full_page=True)
        page.goto(f"{url}/dashboard/invoices")
        page.locator("#invoices tbody tr", has_text="initech").locator("th a").first.click()
        page.screenshot(path=folder / "invoice.png", full_page=True)
        browser.close()


def _signed_in(browser: Browser, url: str, key: str, **options: object) -> Page:
    page = browser.new_context(**options).new_page()  # type: ignore[arg-type]
    page.goto(f"{url}/dashboard/")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#content h1")
    return page


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
