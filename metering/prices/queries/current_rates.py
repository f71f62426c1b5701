"""The rate cards that are in force at a moment, by provider and model."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select, text

from metering.db.tables import rate_cards, rates
from metering.prices.store.rate_rows import SourcedRateCard, rates_by_card, sourced_rate_card

_IN_FORCE = text(
    """
    SELECT rate_card_id FROM (
        SELECT DISTINCT ON (provider, model, coalesce(customer_id, '')) rate_card_id, provider, model, customer_id
        FROM rate_cards WHERE effective_from <= :now
          AND (CAST(:only AS text) IS NULL OR customer_id IS NULL OR customer_id = :only)
        ORDER BY provider, model, coalesce(customer_id, ''), effective_from DESC
    ) AS newest
    WHERE (CAST(:provider AS text) IS NULL OR provider = :provider)
      AND (CAST(:words AS text) IS NULL OR strpos(lower(model), lower(:words)) > 0)
    ORDER BY provider, model, coalesce(customer_id, '') LIMIT :limit
    """
)


def rates_in_force(
    connection: Connection, *, now: datetime, provider: str | None, words: str | None, only: str | None, limit: int
) -> Sequence[SourcedRateCard]:
    """Up to `limit` cards in force, by (provider, model); `words` are a part of the model's name.

    With `only`, that customer's own beside everybody's.
    """
    parameters = {"now": now, "provider": provider, "words": words, "only": only, "limit": limit}
    ids = connection.execute(_IN_FORCE, parameters).scalars().all()
    rows = {
        row.rate_card_id: row
        for row in connection.execute(select(rate_cards).where(rate_cards.c.rate_card_id.in_(ids)))
    }
    found = rates_by_card(connection.execute(select(rates).where(rates.c.rate_card_id.in_(ids))))
    return [sourced_rate_card(rows[card_id], found.get(card_id, ())) for card_id in ids]


def rated_providers(connection: Connection) -> Sequence[str]:
    """The providers that have a card."""
    query = select(rate_cards.c.provider).distinct().order_by(rate_cards.c.provider)
    return connection.execute(query).scalars().all()
