"""The dashboard in a real browser, as a finance person uses it."""

import csv
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.pages import Dashboard, sign_in
from tests.builders.posted import event
from tests.builders.seeded import CONFLICTING, OPEN, Seeded
from tests.dashboard.reading import rows_of
from tests.exports.files import read_csv, read_parquet

pytestmark = pytest.mark.long

SECTIONS = (
    "Overview",
    "Customers",
    "Models",
    "Streams",
    "Month end",
    "Invoices",
    "Credits",
    "Reconciliation",
    "Alerts",
    "Backlog",
    "Rates",
    "Keys",
    "Audit log",
    "System",
)
PAGES = (
    "", "customers", "customer?customer_id=hooli", "models", "streams", "streams?state=open", "invoices", "drift",
    "month-end", "search?q=hooli", "adjust?customer_id=hooli&kind=credit&usd=1&reason=x",
    "?by=models&sort-models=-change",
    "alerts", "backlog", "rates?q=opus", "rate?provider=anthropic&model=claude-opus-4-7", "system", "nowhere",
    "sign-in", "keys", "audit-log", "alert/new?kind=daily_change", "webhook/new",
    f"settle?customer_id=hooli&stream_id={CONFLICTING}&action=bill_as_is&reason=x",
    "credits", "credits?customer_id=hooli", "budgets",
    f"stream?customer_id=hooli&stream_id={OPEN}", f"stream?customer_id=hooli&stream_id={CONFLICTING}",
)  # fmt: skip


def test_every_section_is_one_click_away(dashboard: Dashboard) -> None:
    page = dashboard.page
    for name in SECTIONS:
        page.get_by_role("navigation", name="Sections").get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        current = page.get_by_role("navigation", name="Sections").locator("[aria-current]")
        expect(current).to_contain_text(name)
        expect(page.locator("footer")).to_contain_text("Amounts are in US dollars. Times are in UTC")


def test_an_invoice_says_quantity_and_rate_once_on_a_desk(dashboard: Dashboard, seeded: Seeded) -> None:
    page = dashboard.open(f"invoices?month={seeded.period}")
    page.locator("#invoices tbody th a").first.click()
    quantity = page.locator(".invoice-lines .rate").first
    expect(quantity.locator("td").first).to_be_visible()
    expect(quantity.locator(".narrow")).to_be_hidden()
    step = page.locator(".way li").first
    marker = step.evaluate("each => getComputedStyle(each, '::before').content")
    assert marker == '"✓"'


def test_last_months_number_is_explained_in_three_clicks(dashboard: Dashboard, seeded: Seeded) -> None:
    page = dashboard.open(f"customer?customer_id=hooli&month={seeded.period}")
    page.locator("#models tbody tr").first.get_by_role("link").click()
    expect(page.locator("p.sum")).to_contain_text("in total")
    page.locator("#streams tbody tr").first.locator("th a").click()
    sheet = page.locator("#sheet")
    expect(sheet).to_contain_text("USD per million")
    expect(sheet.locator(".checks li")).to_have_count(6)
    expect(sheet.locator('.checks [data-ok="no"]')).to_have_count(0)


def test_an_invoice_is_explained_down_to_a_stream(dashboard: Dashboard, seeded: Seeded) -> None:
    page = dashboard.open(f"invoices?month={seeded.period}")
    page.locator("#invoices tbody tr th a").first.click()
    expect(page.locator(".arithmetic")).to_contain_text(
        re.compile(r"\$[\d.]+ \+ \$[\d.]+ = \$\d+\.\d\d \+ \$[\d.]+")
    )
    page.locator("#lines tbody th a").first.click()
    expect(page.locator("p.sum")).to_contain_text("Its entries sum to exactly this amount")
    page.locator("#entries td.code a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Stream")


def test_charts_are_drawn_and_have_their_figures(dashboard: Dashboard) -> None:
    page = dashboard.open("")
    canvas = page.locator("figure.chart canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile("Cost by day, highest on"))
    drawn = canvas.evaluate(
        "each => [...each.getContext('2d').getImageData(0, 0, each.width, each.height).data].some(Boolean)"
    )
    assert drawn
    page.get_by_text("Show the figures").click()
    expect(page.locator("figure.chart table")).to_be_visible()


def test_a_file_sums_to_what_the_page_shows(dashboard: Dashboard, seeded: Seeded, tmp_path: Path) -> None:
    page = dashboard.open(f"?month={seeded.period}&by=outcomes")
    shown = page.locator("#outcomes tfoot data").first.get_attribute("value")
    rows = download(page, lambda: page.locator("#outcomes a.file").click(), tmp_path)
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(shown or "")
    days = download(page, lambda: page.locator("figure.chart a.file").click(), tmp_path)
    assert sum(Decimal(row["total_usd"]) for row in days) == Decimal(shown or "")


def download(page: Page, act: Callable[[], None], folder: Path) -> list[dict[str, str]]:
    """The rows of a file that somebody takes along."""
    with page.expect_download() as caught:
        act()
    path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_each_export_is_downloaded_and_sums_to_the_invoices(
    dashboard: Dashboard, seeded: Seeded, tmp_path: Path
) -> None:
    page = dashboard.open("invoices")
    invoices = rows_of(dashboard.page.request.get(f"{dashboard.url}/dashboard/invoices?csv=invoices").text())
    billed = sum(Decimal(row["billed_usd"]) for row in invoices if row["period"] == seeded.period)
    sums = {"focus": ("BilledCost", 1), "invoice-lines": ("billed_cents", 100), "charges": ("cost_usd_cents", 100)}
    for kind, (column, scale) in sums.items():
        for format, read in (("csv", read_csv), ("parquet", read_parquet)):
            with page.expect_download() as caught:
                page.locator(f'.downloads a[href*="/{kind}.{format}?period="]').click()
            path = tmp_path / caught.value.suggested_filename
            caught.value.save_as(path)
            assert sum(Decimal(row[column]) for row in read(path.read_bytes())) == billed * scale, path.name


def test_an_accrued_amount_grows_on_the_open_page_and_becomes_final(dashboard: Dashboard, seeded: Seeded) -> None:
    # A customer of its own: other tests compare what the seeded customers spent.
    stream_id = "grows"
    start = {"stream_id": stream_id, "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}

    def post(kind: str, data: dict[str, object]) -> None:
        sent = event(kind, {"stream_id": stream_id, **data}, subject="grower", time=seeded.now.isoformat())
        sent["id"] = f"{stream_id}:{kind}:{data.get('seq', '')}"
        assert seeded.api.post([sent]).json()["rejected"] == []

    post("stream-start", start)
    post("token-delivered", {"seq": 1, "output_tokens": 20})
    page = dashboard.open(f"stream?customer_id=grower&stream_id={stream_id}")
    expect(page.locator(".figure")).to_contain_text("$0.00456")
    post("token-delivered", {"seq": 2, "output_tokens": 120})
    expect(page.locator(".figure")).to_contain_text("$0.00706", timeout=60_000)
    usage = {"input_tokens": 812, "output_tokens": 121}
    post("stream-end", {"outcome": "completed", "usage": usage, "usage_source": "provider"})
    seeded.api.finalize()
    expect(page.locator(".figure")).to_contain_text("$0.007085", timeout=60_000)
    expect(page.locator(".tile")).to_contain_text("Cost, final")


def test_a_stream_of_the_backlog_is_settled(dashboard: Dashboard, seeded: Seeded) -> None:
    stream_id = "to-settle"
    start = {"stream_id": stream_id, "provider": "mystery", "model": "of-nobody", "input_tokens": 5}
    end = {"stream_id": stream_id, "outcome": "completed", "usage": {"input_tokens": 5, "output_tokens": 5}}
    kinds = (("stream-start", start), ("stream-end", end))
    now = seeded.now.isoformat()
    sent = [event(kind, data, subject="dunder", time=now, id=f"{stream_id}{kind}") for kind, data in kinds]
    assert seeded.api.post(sent).json()["rejected"] == []
    seeded.api.finalize()
    page = dashboard.open("backlog")
    page.locator("#backlog tbody tr", has_text=stream_id).get_by_role("link", name="Settle…", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(stream_id)
    page.get_by_role("button", name="Write off").click()  # without a reason the browser does not send it
    page.get_by_label("Reason").fill("no price was agreed")
    page.get_by_role("button", name="Write off").click()
    expect(page.locator("form.confirm")).to_contain_text(f"Write off stream {stream_id}")
    page.get_by_role("button", name="Book $0.00").click()
    expect(page.get_by_role("status")).to_contain_text("Decision recorded")
    seeded.api.finalize()
    page.get_by_role("status").get_by_role("link").click()
    expect(page.locator(".factlist")).to_contain_text("no price was agreed")


def test_signing_out_leads_to_the_form_and_back_needs_the_key(dashboard: Dashboard) -> None:
    page = dashboard.page
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_be_focused()
    page.go_back()
    page.reload()
    expect(page.get_by_label("Key")).to_be_visible()


def test_the_keyboard_is_enough(dashboard: Dashboard) -> None:
    page = dashboard.open("")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")], ids=["desk, light", "phone, dark"])
def test_no_page_has_a_serious_accessibility_fault(
    chromium: Browser, seeded: Seeded, width: int, scheme: str
) -> None:
    found = sign_in(
        chromium, seeded, viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    for path in PAGES:
        page = found.open(path)
        results = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        serious = [
            (each["id"], [node["html"][:200] for node in each["nodes"]][:3])
            for each in results
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
        too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, path
    found.page.context.close()


def test_nothing_is_fetched_from_elsewhere(chromium: Browser, seeded: Seeded) -> None:
    found = sign_in(chromium, seeded)
    asked: list[str] = []
    found.page.on("request", lambda request: asked.append(request.url))
    for path in PAGES:
        found.open(path)
    assert len(asked) > len(PAGES)
    assert all(url.startswith((found.url, "data:")) for url in asked)
    found.page.context.close()


def test_names_that_look_like_markup_stay_names(dashboard: Dashboard, seeded: Seeded) -> None:
    hostile = "<img src=x onerror=document.title='owned'>"
    start = {"stream_id": hostile, "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 1,
             "api_key_id": hostile}  # fmt: skip
    end = {"stream_id": hostile, "outcome": "completed", "usage": {"input_tokens": 1, "output_tokens": 1}}
    kinds = (("stream-start", start), ("stream-end", end))
    now = seeded.now.isoformat()
    sent = [event(kind, data, subject=hostile, time=now, id=f"x{kind}") for kind, data in kinds]
    assert seeded.api.post(sent).json()["rejected"] == []
    seeded.api.finalize()
    page = dashboard.open("streams")
    page.locator("#streams tbody tr", has_text=hostile).locator("th a").click()
    expect(page.locator("#sheet-body")).to_contain_text(hostile)
    page.get_by_role("link", name="Open its page").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(hostile)
    page.goto(f"{dashboard.url}/dashboard/")
    expect(page.locator("#top")).to_be_visible()
    assert "owned" not in page.title()
