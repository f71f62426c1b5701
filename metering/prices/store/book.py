"""SQL that loads the price book: as it is, as it was at a time, and again when it has changed."""

import threading
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, text

from metering.prices.cancel_policies import CancelPolicyBook
from metering.prices.price_book import MarkupBook, PriceBook, UpstreamPriceBook
from metering.prices.rate_book import RateBook
from metering.prices.store.cards import SourcedRateCard, load_rate_cards
from metering.prices.store.terms import (
    FOREVER,
    load_cancel_terms,
    load_markups,
    load_providers,
    load_upstream_prices,
)

# Rows are only added, so their number and the newest time identify a version.
_VERSION = text(
    """
    SELECT (SELECT (count(*), max(created_at))::text FROM rate_cards)
        || (SELECT (count(*), max(created_at))::text FROM rate_providers)
        || (SELECT (count(*), max(created_at))::text FROM cancel_policies)
        || (SELECT (count(*), max(created_at))::text FROM markups)
        || (SELECT (count(*), max(created_at))::text FROM upstream_prices)
    """
)


class PriceBooks:
    """A cache of the price book. Reading it costs one small query, and what was added since it was last read.

    `cards` are rate cards that are known to be stored.
    """

    def __init__(self, cards: Iterable[SourcedRateCard] = ()) -> None:
        self._lock = threading.Lock()
        self._cards = {each.card.rate_card_id: each for each in cards}
        self._version: str | None = None
        self._woken: str | None = None
        self._book = PriceBook(rates=RateBook(()))

    def current(self, connection: Connection) -> PriceBook:
        """The book with all rows that `connection` can see."""
        version: str = connection.execute(_VERSION).scalar_one()
        with self._lock:
            if version != self._version:
                # Cards are found by their ids: rows that were added at about the same time appear in any order.
                for each in load_rate_cards(connection, known=self._cards):
                    self._cards[each.card.rate_card_id] = each
                self._book = load_price_book(connection, cards=self._cards.values())
                self._version = version
            return self._book

    def version_to_wake(self) -> str | None:
        """The version of the last book, if unpriced streams were not woken for it yet; None otherwise."""
        return None if self._version == self._woken else self._version

    def mark_woken(self, version: str) -> None:
        """Record that unpriced streams were woken for this version."""
        self._woken = version


def load_price_book(
    connection: Connection, *, cards: Iterable[SourcedRateCard] | None = None, known_at: datetime = FOREVER
) -> PriceBook:
    """The price book with all rows that were added by `known_at`. `cards` spares reading the stored cards."""
    stored = load_rate_cards(connection) if cards is None else cards
    return PriceBook(
        rates=RateBook(
            (each.card for each in stored if each.created_at <= known_at),
            load_providers(connection, known_at=known_at),
        ),
        cancel_policies=CancelPolicyBook(load_cancel_terms(connection, known_at=known_at)),
        markups=MarkupBook(load_markups(connection, known_at=known_at)),
        upstream_prices=UpstreamPriceBook(load_upstream_prices(connection, known_at=known_at)),
    )


_CHANGES = text(
    """
    SELECT created_at FROM rate_cards UNION SELECT created_at FROM rate_providers
    UNION SELECT created_at FROM cancel_policies UNION SELECT created_at FROM markups
    UNION SELECT created_at FROM upstream_prices ORDER BY created_at
    """
)


def price_book_changes(connection: Connection) -> list[datetime]:
    """The times at which rows were added to the price book, in order."""
    return list(connection.execute(_CHANGES).scalars())
