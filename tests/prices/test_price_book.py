"""The price book: markups by customer and moment."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from metering.prices.cancel_policies import CancelPolicy
from metering.prices.price_book import Markup, MarkupBook, PriceBook
from metering.prices.rate_book import RateBook

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_markup_is_its_customers_from_its_moment_until_the_next() -> None:
    book = MarkupBook(
        [
            Markup(customer_id="acme", percent=Decimal("-12.5"), effective_from=T0 + timedelta(days=1)),
            Markup(customer_id="acme", percent=Decimal(20), effective_from=T0),
            Markup(customer_id="bolt", percent=Decimal(5), effective_from=T0),
        ]
    )
    moments = (T0 - timedelta(seconds=1), T0, T0 + timedelta(days=1))
    assert [book.find(customer_id="acme", at=at) for at in moments] == [0, 20, Decimal("-12.5")]
    assert book.find(customer_id="bolt", at=T0) == 5
    assert book.find(customer_id="other", at=T0) == 0


def test_a_book_of_rates_alone_marks_nothing_up_and_bills_what_was_delivered() -> None:
    book = PriceBook(rates=RateBook([]))
    assert book.markups.find(customer_id="acme", at=T0) == 0
    assert book.cancel_policies.find(provider="openai", at=T0) == (CancelPolicy.DELIVERED, 0)
