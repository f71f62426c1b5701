"""docs/tutorials/first-month-end.md, followed with the commands and the dashboard, but for ports and the month."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.server.embedded.data_dir import ephemeral_data_dir
from tests.docs.pages import DOCS, Page, running_up
from tests.running_api import http_client
from tests.tools import need
from tests.waiting import eventually

pytestmark = pytest.mark.long

NAME = "tutorials/first-month-end.md"
# With the grace of a day, the month that can be closed now.
PERIOD = BillingPeriod.containing(at=utc_now() - timedelta(days=1), time_zone=UTC_ZONE).previous


@pytest.fixture
def data() -> Iterator[Path]:
    with ephemeral_data_dir() as folder:
        yield folder / "data"


def test_a_month_is_closed_by_commands_and_by_the_dashboard(data: Path, tmp_path: Path) -> None:
    need("curl")
    with running_up(data, METERING_CLOSE_AUTOMATICALLY="false") as up:
        page = Page(
            name=NAME,
            replaced={"http://127.0.0.1:8000": up["url"]},
            environment={
                "METERING_DATA": str(data),
                "MONTH": str(PERIOD),
                "KEY": up["admin_key"],
            },
            folder=tmp_path,
        )
        by_commands(page)
        by_dashboard(page, up)


def by_commands(page: Page) -> None:
    post = page.examples("2. Have a month to close")[1]
    page.run(post)
    [preview] = page.examples("3. See what would be billed")
    assert eventually(lambda: "$2.35" in page.run(preview), within=120)
    for section in ("4. Give each customer a Stripe customer", "5. Close, invoice and push"):
        for code in page.examples(section):
            page.run(code)
    [look] = page.examples("6. Look at an invoice, and send it")
    shown = page.run(look)
    assert "final" in shown
    assert (page.folder / "statement.pdf").read_bytes().startswith(b"%PDF")
    [prove] = page.examples("7. Prove that Stripe has the same")
    page.run(prove)
    assert "acme" in (page.folder / "charges.csv").read_text()


def by_dashboard(page: Page, up: dict[str, Any]) -> None:
    post = page.examples("2. Have a month to close")[1]
    page.run(post.replace("m1", "m2").replace("acme", "globex"))
    with http_client(up["url"]) as browser:
        assert browser.post("/dashboard/sign-in", data={"key": up["admin_key"]}).status_code == 303
        assert eventually(lambda: tiles(browser)["Ready to close"] == 1, within=120)
        assert tiles(browser)["Blocked"] == 0
        send(browser, "Close the month", "close", confirm=str(PERIOD))
        assert eventually(lambda: tiles(browser)["Ready to close"] == 0, within=120)
        assert eventually(lambda: "unlinked" in month_end(browser), within=120)
        page.run(page.examples("4. Give each customer a Stripe customer")[0])
        send(browser, "Push to Stripe", "push")
        assert eventually(lambda: tiles(browser)["Closed, not pushed"] == 0, within=120)
        assert tiles(browser)["At Stripe"] == 2
        page.run(page.examples("7. Prove that Stripe has the same")[0].split("\n")[0])
        assert tiles(browser)["Reconciled"] == 2
    [again] = page.examples("5. Close, invoice and push")
    page.run(again)


def month_end(browser: httpx2.Client) -> str:
    answer = browser.get("/dashboard/month-end", params={"month": str(PERIOD)})
    assert answer.status_code == 200
    return answer.text


def tiles(browser: httpx2.Client) -> dict[str, int]:
    found = re.findall(r'<dt>([^<]+)</dt><dd class="figure">([\d,]+)</dd>', month_end(browser))
    return {title: int(count.replace(",", "")) for title, count in found}


def send(browser: httpx2.Client, button: str, path: str, **fields: str) -> None:
    """Press a button that the tutorial and the page name alike."""
    shown = month_end(browser)
    assert f"*{button}*" in (DOCS / NAME).read_text()
    assert f">{button}</button>" in shown
    token = re.search(r'name="token" value="(\w+)"', shown)
    assert token is not None
    data = {"token": token[1], "month": str(PERIOD), **fields}
    assert browser.post(f"/dashboard/month-end/{path}", data=data).status_code == 303


def test_the_page_names_every_step_of_the_dashboards_page() -> None:
    text = (DOCS / NAME).read_text()
    for title in ("Blocked", "Ready to close", "Closed, not pushed", "At Stripe", "Reconciled"):
        assert f"**{title}**" in text
