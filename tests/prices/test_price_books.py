"""The cached price book: it is the stored one, whatever was added since and in whatever order."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Connection, Engine, event

from metering.db.engine import transaction
from metering.events.usage import UsageKind
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from metering.prices.set_terms import set_cancel_policy, set_markup
from metering.prices.store.book import PriceBooks, load_price_book
from metering.prices.store.cards import load_rate_cards

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def set_price(engine: Engine, usd: str, *, model: str = "m", now: datetime = NOW) -> str:
    rate = Rate(kind=UsageKind.INPUT, usd_per_million=Decimal(usd))
    at = datetime(2026, 1, int(usd), tzinfo=UTC)
    card = set_rate(
        engine=engine, provider="house", model=model, effective_from=at, rates=[rate], set_by="test", now=now
    )
    return card.rate_card_id


def same(connection: Connection, books: PriceBooks) -> bool:
    """Whether the cached book finds what a book does that is read from nothing."""
    cached, stored = books.current(connection), load_price_book(connection)
    return all(
        cached.rates.find(provider="house", model=model, at=NOW)
        == stored.rates.find(provider="house", model=model, at=NOW)
        for model in ("m", "n")
    )


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[str]]:
    """The statements that were sent."""
    sent: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def test_a_card_that_is_dated_before_the_last_one_is_found_too(engine: Engine) -> None:
    books = PriceBooks()
    set_price(engine, "5")
    with transaction(engine) as connection:
        assert same(connection, books)
    late = set_price(engine, "9", model="n", now=NOW - timedelta(hours=1))
    with transaction(engine) as connection:
        assert same(connection, books)
        assert books.current(connection).rates.card(late) is not None


def test_a_card_that_supersedes_another_is_in_force(engine: Engine) -> None:
    books = PriceBooks()
    for usd in ("5", "6"):
        card = set_price(engine, usd)
        with transaction(engine) as connection:
            found = books.current(connection).rates.find(provider="house", model="m", at=NOW)
            assert same(connection, books)
        assert found is not None
        assert found.card.rate_card_id == card


def test_terms_that_were_added_are_in_it_and_known_cards_are_not_read_again(engine: Engine) -> None:
    card_id = set_price(engine, "5")
    with transaction(engine) as connection:
        (known,) = load_rate_cards(connection)
    books = PriceBooks([known])
    at = {"effective_from": NOW, "now": NOW}
    set_markup(engine=engine, customer_id="acme", percent=Decimal(20), set_by="test", **at)
    set_cancel_policy(engine=engine, provider="house", policy=CancelPolicy.ZERO, set_by="test", **at)
    with transaction(engine) as connection:
        book = books.current(connection)
    assert book.markups.find(customer_id="acme", at=NOW) == 20
    assert book.cancel_policies.find(provider="house", at=NOW)[0] is CancelPolicy.ZERO
    assert book.rates.card(card_id) is known.card


def test_while_nothing_is_added_it_costs_one_statement(engine: Engine, statements: list[str]) -> None:
    books = PriceBooks()
    with transaction(engine) as connection:
        first = books.current(connection)
        statements.clear()
        assert books.current(connection) is first
    assert len(statements) == 1


def test_each_version_wakes_unpriced_streams_once(engine: Engine) -> None:
    books = PriceBooks()
    assert books.version_to_wake() is None
    for usd in ("5", "6"):
        set_price(engine, usd)
        with transaction(engine) as connection:
            books.current(connection)
        version = books.version_to_wake()
        assert version is not None
        books.mark_woken(version)
        assert books.version_to_wake() is None
