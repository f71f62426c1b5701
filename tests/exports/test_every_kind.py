"""FOCUS rows of what is not counted in tokens: seconds are priced by the hour, all else by the million."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from metering.customers.store import CustomerDetails
from metering.events.usage import Usage, UsageKind
from metering.prices.rates import priced
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_markup
from metering.stripe.put_customer import put_customer
from tests.builders import Books, end, start
from tests.exports.costs import check_costs
from tests.exports.files import csv_rows, parquet_rows

PRICED_FROM = datetime(2026, 10, 1, tzinfo=UTC)
BOOKED = datetime(2026, 11, 28, tzinfo=UTC)
AT = datetime(2026, 11, 3, 12, tzinfo=UTC)


def book(books: Books, *, percent: str, usages: list[Usage], prices: dict[UsageKind, str]) -> None:
    """Streams of these usages, booked in November with a card of these prices."""
    engine = books.service.engine
    rates = [priced(kind=kind, usd=Decimal(price)) for kind, price in prices.items()]
    set_rate(engine=engine, provider="p", model="m", effective_from=PRICED_FROM, rates=rates, set_by="test",
             now=PRICED_FROM)  # fmt: skip
    put_customer(engine=engine, customer_id="acme", details=CustomerDetails(), now=PRICED_FROM)
    set_markup(engine=engine, customer_id="acme", percent=Decimal(percent), effective_from=PRICED_FROM,
               set_by="test", now=PRICED_FROM)  # fmt: skip
    for number, usage in enumerate(usages):
        name = f"s{number}"
        books.receive([start(name, time=AT, provider="p", model="m"), end(name, time=AT, usage=usage)], at=BOOKED)
    while books.finalize(now=BOOKED).claimed:
        pass


@pytest.mark.parametrize(
    ("percent", "list_price", "contracted"), [("0", "0.36", "0.36"), ("25", "0.36", "0.45"), ("-100", "0.36", "0")]
)
def test_seconds_have_hours_as_their_pricing_unit(
    books: Books, percent: str, list_price: str, contracted: str
) -> None:
    usages = [Usage(audio_seconds=Decimal(seconds)) for seconds in ("12.345", "0.001", "3600", "1799.999")]
    book(books, percent=percent, usages=usages, prices={UsageKind.AUDIO_SECONDS: "0.36"})
    rows = parquet_rows(books.service.engine, "focus")
    check_costs(rows)
    (row,) = rows
    assert (row["ConsumedQuantity"], row["ConsumedUnit"]) == (Decimal("5412.345"), "Seconds")
    assert (row["PricingQuantity"], row["PricingUnit"]) == (Decimal("1.503429166667"), "Hours")
    assert (row["ListUnitPrice"], row["ContractedUnitPrice"]) == (Decimal(list_price), Decimal(contracted))
    assert abs(row["ListCost"] - Decimal("0.5412345")) < Decimal("1e-12")
    (in_csv,) = csv_rows(books.service.engine, "focus")
    assert Decimal(in_csv["ConsumedQuantity"]) == row["ConsumedQuantity"]
    assert Decimal(in_csv["BilledCost"]) == row["BilledCost"]


def test_pages_searches_characters_and_messages_are_priced_by_the_million(books: Books) -> None:
    prices = {
        UsageKind.INPUT: "3",
        UsageKind.INPUT_DOCUMENT_PAGES: "1000",
        UsageKind.WEB_SEARCHES: "10000",
        UsageKind.INPUT_AUDIO_SECONDS: "0.111",
    }
    usages = [
        Usage(input_tokens=7, web_searches=3),
        Usage(input_tokens=0, input_document_pages=12),
        Usage(input_tokens=0, input_audio_seconds=Decimal("12.5"), web_searches=1),
    ]
    book(books, percent="10", usages=usages, prices=prices)
    rows = parquet_rows(books.service.engine, "focus")
    check_costs(rows)
    found = {row["x_UsageKind"]: (row["ConsumedQuantity"], row["PricingUnit"], row["ListCost"]) for row in rows}
    assert found == {
        "input": (7, "1000000 Tokens", Decimal("0.000021")),
        "web_searches": (4, "1000000 Searches", Decimal("0.04")),
        "input_document_pages": (12, "1000000 Pages", Decimal("0.012")),
        "input_audio_seconds": (Decimal("12.5"), "Hours", Decimal("0.00038541666667")),
    }
