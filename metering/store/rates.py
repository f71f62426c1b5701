"""Rate cards: added, never changed; and the rate book that rating reads, kept until a card is added."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, insert, select

from metering.domain.rates import Rate, RateBook, RateCard
from metering.domain.usage import UsageKind
from metering.tables import rate_cards, rates


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRateCard:
    """A rate card and where its prices come from."""

    card: RateCard
    provenance: str


def add_rate_cards(connection: Connection, *, cards: Sequence[NewRateCard], now: datetime) -> None:
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
    rows = connection.execute(
        select(rates).order_by(rates.c.rate_card_id, rates.c.kind, rates.c.above_input_tokens)
    )
    by_card = {card_id: tuple(map(_rate, group)) for card_id, group in groupby(rows, lambda row: row.rate_card_id)}
    return [
        RateCard(
            rate_card_id=row.rate_card_id,
            provider=row.provider,
            model=row.model,
            effective_from=row.effective_from,
            rates=by_card.get(row.rate_card_id, ()),
            names=row.names,
            position=row.position,
        )
        for row in connection.execute(select(rate_cards))
    ]


def _rate(row: Any) -> Rate:
    kind, above, usd = row.kind, row.above_input_tokens, row.usd_per_million
    return Rate(kind=UsageKind(kind), above_input_tokens=above, usd_per_million=usd)


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
