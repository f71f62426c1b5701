"""Rate cards with their provenance, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, tuple_

from metering.domain.rates import Rate, RateCard
from metering.domain.usage import UsageKind
from metering.tables import rate_cards, rates


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCardView:
    """A rate card and where its prices come from."""

    card: RateCard
    provenance: str


def list_rate_cards(
    connection: Connection,
    *,
    provider: str | None,
    model: str | None,
    after: tuple[str, str, datetime] | None,
    limit: int,
) -> Sequence[RateCardView]:
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
    by_card: dict[str, list[Rate]] = {}
    for row in connection.execute(wanted.order_by(rates.c.kind, rates.c.above_input_tokens)):
        by_card.setdefault(row.rate_card_id, []).append(
            Rate(
                kind=UsageKind(row.kind),
                usd_per_million=row.usd_per_million,
                above_input_tokens=row.above_input_tokens,
            )
        )
    return [
        RateCardView(
            card=RateCard(
                rate_card_id=row.rate_card_id,
                provider=row.provider,
                model=row.model,
                effective_from=row.effective_from,
                rates=tuple(by_card.get(row.rate_card_id, ())),
                names=row.names,
                position=row.position,
            ),
            provenance=row.provenance,
        )
        for row in rows
    ]
