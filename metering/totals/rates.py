"""Rate cards with their provenance, page by page."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select, tuple_

from metering.records.rates import SourcedRateCard, rate_card_of_row, rates_by_card
from metering.tables import rate_cards, rates


def list_rate_cards(
    connection: Connection,
    *,
    provider: str | None,
    model: str | None,
    after: tuple[str, str, datetime] | None,
    limit: int,
) -> Sequence[SourcedRateCard]:
    """Cards behind the position `after`, by (provider, model, effective_from)."""
    order = (rate_cards.c.provider, rate_cards.c.model, rate_cards.c.effective_from)
    query = select(rate_cards).order_by(*order).limit(limit)
    if provider is not None:
        query = query.where(rate_cards.c.provider == provider)
    if model is not None:
        query = query.where(rate_cards.c.model == model)
    if after is not None:
        query = query.where(tuple_(*order) > after)
    rows = connection.execute(query).all()
    wanted = select(rates).where(rates.c.rate_card_id.in_([row.rate_card_id for row in rows]))
    by_card = rates_by_card(connection.execute(wanted.order_by(rates.c.kind, rates.c.above_input_tokens)))
    return [
        SourcedRateCard(card=rate_card_of_row(row, by_card.get(row.rate_card_id, ())), provenance=row.provenance)
        for row in rows
    ]
