"""Rate cards, cancel policies and markups with their provenance, page by page or in force at a moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, text, tuple_

from metering.db.tables import cancel_policies, markups, rate_cards, rates
from metering.prices.cancel_policies import CancelTerms
from metering.prices.price_book import Markup
from metering.prices.store import (
    SourcedRateCard,
    cancel_terms_of_row,
    markup_of_row,
    rates_by_card,
    sourced_rate_card,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCardFilter:
    """Which cards to list. None does not narrow; `customer_id` takes that customer's own beside everybody's."""

    provider: str | None = None
    model: str | None = None
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class SourcedTerms:
    """A cancel policy, where it comes from, and when it was added."""

    terms: CancelTerms
    provenance: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SourcedMarkup:
    """A markup, where it comes from, and when it was added."""

    markup: Markup
    provenance: str
    created_at: datetime


def list_rate_cards(
    connection: Connection,
    *,
    where: RateCardFilter,
    after: tuple[str, str, datetime, str] | None,
    limit: int,
) -> Sequence[SourcedRateCard]:
    """Cards behind the position `after`, by (provider, model, effective_from, customer or '')."""
    owner = func.coalesce(rate_cards.c.customer_id, "")
    order = (rate_cards.c.provider, rate_cards.c.model, rate_cards.c.effective_from, owner)
    query = select(rate_cards).order_by(*order).limit(limit)
    if where.provider is not None:
        query = query.where(rate_cards.c.provider == where.provider)
    if where.model is not None:
        query = query.where(rate_cards.c.model == where.model)
    if where.customer_id is not None:
        query = query.where(owner.in_(["", where.customer_id]))
    if after is not None:
        query = query.where(tuple_(*order) > after)
    rows = connection.execute(query).all()
    by_card = rates_by_card(
        connection.execute(select(rates).where(rates.c.rate_card_id.in_([row.rate_card_id for row in rows])))
    )
    return [sourced_rate_card(row, by_card.get(row.rate_card_id, ())) for row in rows]


def get_rate_card(connection: Connection, *, rate_card_id: str) -> SourcedRateCard | None:
    """The card with this id."""
    row = connection.execute(select(rate_cards).where(rate_cards.c.rate_card_id == rate_card_id)).first()
    if row is None:
        return None
    by_card = rates_by_card(connection.execute(select(rates).where(rates.c.rate_card_id == rate_card_id)))
    return sourced_rate_card(row, by_card.get(rate_card_id, ()))


def list_cancel_policies(connection: Connection, *, provider: str | None) -> Sequence[SourcedTerms]:
    """Every policy ever set, by provider and version; there are few."""
    query = select(cancel_policies).order_by(cancel_policies.c.provider, cancel_policies.c.version)
    if provider is not None:
        query = query.where(cancel_policies.c.provider == provider.lower())
    return [
        SourcedTerms(cancel_terms_of_row(row), row.provenance, row.created_at) for row in connection.execute(query)
    ]


def list_markups(connection: Connection, *, customer_id: str) -> Sequence[SourcedMarkup]:
    """A customer's markups, oldest first."""
    query = select(markups).where(markups.c.customer_id == customer_id).order_by(markups.c.effective_from)
    return [SourcedMarkup(markup_of_row(row), row.provenance, row.created_at) for row in connection.execute(query)]


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
