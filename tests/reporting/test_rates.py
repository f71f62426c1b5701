"""rates: every rate with the time in which it is in force, half-open; as the rate book finds them."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from metering.db.engine import transaction
from metering.events.usage import UsageKind
from metering.prices.rates import DailyWindow, Rate
from metering.prices.set_rate import set_rate
from tests.builders import Books
from tests.reporting.views import read

FIRST = datetime(2026, 11, 5, tzinfo=UTC)
SECOND = datetime(2026, 11, 20, tzinfo=UTC)


def set_card(books: Books, at: datetime, dollars: str, *, customer_id: str | None = None, **more: object) -> None:
    rates = [Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(dollars))]
    if more:
        rates.append(Rate(kind=UsageKind.OUTPUT, usd_per_million=Decimal(dollars), **more))  # type: ignore[arg-type]
    set_rate(
        engine=books.service.engine,
        provider="openai",
        model="house",
        effective_from=at,
        rates=rates,
        set_by="test",
        now=FIRST,
        customer_id=customer_id,
    )


def test_a_card_is_in_force_until_the_next_takes_over(books: Books) -> None:
    set_card(books, FIRST, "2")
    set_card(books, SECOND, "3")
    set_card(books, SECOND, "1", customer_id="acme")
    query = """SELECT customer_id, effective_from, effective_to, usd_per_million FROM rates
               WHERE model = 'house' ORDER BY effective_from, usd_per_million"""
    assert [tuple(row.values()) for row in read(books.database, query)] == [
        (None, FIRST, SECOND, Decimal(2)),
        ("acme", SECOND, None, Decimal(1)),
        (None, SECOND, None, Decimal(3)),
    ]


def test_a_card_that_ends_a_customers_own_price_ends_its_range(books: Books) -> None:
    set_card(books, FIRST, "2")
    set_card(books, FIRST, "1", customer_id="acme")
    set_rate(
        engine=books.service.engine,
        provider="openai",
        model="house",
        effective_from=SECOND,
        rates=[],
        set_by="test",
        now=FIRST,
        customer_id="acme",
    )
    own = read(books.database, "SELECT effective_to FROM rates WHERE customer_id = 'acme'")
    assert own == [{"effective_to": SECOND}]


def test_tiers_and_times_of_day_are_columns_that_are_null_when_absent(books: Books) -> None:
    window = DailyWindow(time(16, 30), time(0, 30))
    set_card(books, FIRST, "2", daily=window, service_tier="flex")
    query = "SELECT * FROM rates WHERE model = 'house' ORDER BY kind"
    plain, special = read(books.database, query)
    assert (plain["service_tier"], plain["daily_start"], plain["above_input_tokens"]) == (None, None, 0)
    assert (special["service_tier"], special["daily_start"], special["daily_end"]) == (
        "flex",
        window.start,
        window.end,
    )
    (sized,) = read(books.database, "SELECT count(*) AS rates FROM rates WHERE above_input_tokens > 0")
    assert sized["rates"] > 10


def test_at_any_moment_a_models_rates_are_of_the_card_that_the_rate_book_has(books: Books) -> None:
    for place in range(4):
        set_card(books, FIRST + timedelta(days=place), str(place + 1))
    with transaction(books.service.engine) as connection:
        book = books.service.price_books.current(connection).rates
    for at in (FIRST, FIRST + timedelta(hours=1), FIRST + timedelta(days=1), FIRST + timedelta(days=9)):
        query = f"""SELECT rate_card_id FROM rates WHERE model = 'house'
                    AND effective_from <= '{at}' AND ('{at}' < effective_to OR effective_to IS NULL)"""
        match = book.find(provider="openai", model="house", at=at)
        assert match
        assert read(books.database, query) == [{"rate_card_id": match.card.rate_card_id}]
