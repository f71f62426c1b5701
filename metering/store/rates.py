"""Rate cards: added, never changed; and the rate book that rating reads, kept until a card is added."""

import threading
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from metering.domain.rates import RateBook, RateCard
from metering.records.rates import SourcedRateCard, rate_card_of_row, rates_by_card
from metering.tables import rate_cards, rates


def add_rate_cards(connection: Connection, *, cards: Sequence[SourcedRateCard], now: datetime) -> None:
    """Add cards with their rates; the database refuses a second one for a model and moment."""
    if not cards:
        return
    connection.execute(
        insert(rate_cards),
        [
            {
                "rate_card_id": new.card.rate_card_id,
                "provider": new.card.provider,
                "model": new.card.model,
                "effective_from": new.card.effective_from,
                "names": new.card.names,
                "position": new.card.position,
                "provenance": new.provenance,
                "created_at": now,
            }
            for new in cards
        ],
    )
    connection.execute(
        insert(rates),
        [
            {
                "rate_card_id": new.card.rate_card_id,
                "kind": rate.kind.value,
                "above_input_tokens": rate.above_input_tokens,
                "usd_per_million": rate.usd_per_million,
                "provenance": new.provenance,
            }
            for new in cards
            for rate in new.card.rates
        ],
    )


def load_rate_cards(connection: Connection) -> list[RateCard]:
    """Every card with its rates."""
    by_card = rates_by_card(connection.execute(select(rates).order_by(rates.c.kind, rates.c.above_input_tokens)))
    rows = connection.execute(select(rate_cards))
    return [rate_card_of_row(row, by_card.get(row.rate_card_id, ())) for row in rows]


def has_rate_cards(connection: Connection) -> bool:
    """Whether there is any card at all."""
    return connection.execute(select(rate_cards.c.rate_card_id).limit(1)).first() is not None


class RateBooks:
    """The rate book as the database has it now. Reading it again costs one small query while nothing changed.

    Cards are only ever added, so their number together with the newest time tells one state from another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version: tuple[int, datetime | None] | None = None
        self._book = RateBook(())

    def current(self, connection: Connection) -> RateBook:
        """The book with every card that `connection` can see."""
        row = connection.execute(select(func.count(), func.max(rate_cards.c.created_at))).one()
        version = (row[0], row[1])
        with self._lock:
            if version != self._version:
                self._book = RateBook(load_rate_cards(connection))
                self._version = version
            return self._book
