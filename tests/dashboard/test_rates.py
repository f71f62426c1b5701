"""The rates page: the prices that the installed catalogue would change, for those who may see them."""

from datetime import UTC, datetime, timedelta

from metering.access.scopes import Role
from metering.corrections.compare_rates import compare_rates
from metering.prices.rate_text import parse_rate
from metering.prices.set_rate import set_rate
from tests.builders.catalogues import dearer
from tests.dashboard.browsing import browse
from tests.dashboard.reading import rows_of
from tests.running_api import Api

NOW = datetime(2026, 11, 29, tzinfo=UTC)
TITLE = "Prices that differ from the installed catalogue"


def page(api: Api, path: str = "rates", customer_id: str | None = None, **query: str) -> str:
    browser = browse(api, Role.READ, customer_id)
    return browser.get(path, **query).text


def test_a_price_that_would_change_is_shown_to_operators_only(api: Api) -> None:
    assert "The installed catalogue is compared once a day." in page(api)
    engine = api.service.engine
    found = dearer({"claude-opus-4-7": 2})
    compare_rates(engine=engine, read=lambda: found, every=timedelta(days=1), now=NOW)
    shown = page(api)
    assert TITLE in shown
    assert "anthropic/claude-opus-4-7" in shown
    assert "genai-prices 0.2.4" in shown
    assert "metering rates import --approve" in shown
    assert TITLE not in page(api, customer_id="acme")


def test_a_rate_on_days_of_the_week_is_shown_with_them(api: Api) -> None:
    set_rate(
        engine=api.service.engine,
        provider="house",
        model="own-1",
        effective_from=NOW,
        rates=[parse_rate("input=1"), parse_rate("input=2~mon-fri/09:30-16:30")],
        set_by="test",
        now=NOW,
    )
    assert "mon-fri/09:30-16:30 UTC" in page(api, "rate", provider="house", model="own-1")


def test_rates_beside_the_usual_ones_open_in_the_row_and_are_in_words_in_the_file(api: Api) -> None:
    shown = page(api, provider="google")
    assert "<summary>" in shown
    browser = browse(api, Role.READ)
    rows = rows_of(browser.get("rates", provider="anthropic", csv="rates").text)
    assert {row["customer_id"] for row in rows} == {""}
    (opus,) = [row for row in rows if row["model"] == "claude-opus-4-7"]
    assert (opus["input_usd"], opus["output_usd"]) == ("5", "25")
    assert "service tier" in opus["more"]
