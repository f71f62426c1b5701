"""List rate cards, cancel policies and markups with their provenance, and prices that would change."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.prices.cancel_policies import CancelTerms
from metering.prices.price_book import Markup, UpstreamPrice
from metering.prices.store.cards import SourcedRateCard, rates_by_card, sourced_rate_card
from metering.prices.store.terms import cancel_terms_of_row, markup_of_row, upstream_price_of_row


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCardFilter:
    """Which cards to list; None means any. `customer_id`: shared cards and that customer's own."""

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


@dataclass(frozen=True, slots=True)
class SourcedUpstreamPrice:
    """Whether a provider's own cost is accepted, who set it, and when."""

    price: UpstreamPrice
    provenance: str
    created_at: datetime


_CARDS = text(
    """
    SELECT * FROM rate_cards
    WHERE (CAST(:provider AS text) IS NULL OR provider = :provider)
      AND (CAST(:model AS text) IS NULL OR model = :model)
      AND (CAST(:customer_id AS text) IS NULL OR customer_id IS NULL OR customer_id = :customer_id)
      AND (CAST(:after_provider AS text) IS NULL OR (provider, model, effective_from, coalesce(customer_id, ''))
           > (:after_provider, :after_model, :after_from, :after_owner))
    ORDER BY provider, model, effective_from, coalesce(customer_id, '') LIMIT :limit
    """
)


def list_rate_cards(
    connection: Connection,
    *,
    where: RateCardFilter,
    after: tuple[str, str, datetime, str] | None,
    limit: int,
) -> Sequence[SourcedRateCard]:
    """Cards after the position `after`, by (provider, model, effective_from, customer or '')."""
    provider, model, effective_from, owner = after or (None, None, None, None)
    parameters = {
        **asdict(where),
        "after_provider": provider,
        "after_model": model,
        "after_from": effective_from,
        "after_owner": owner,
        "limit": limit,
    }
    return _with_rates(connection, connection.execute(_CARDS, parameters).all())


_CARD = text("SELECT * FROM rate_cards WHERE rate_card_id = ANY(:ids)")


def get_rate_card(connection: Connection, *, rate_card_id: str) -> SourcedRateCard | None:
    """The card with this id; None if there is none."""
    found = _with_rates(connection, connection.execute(_CARD, {"ids": [rate_card_id]}).all())
    return found[0] if found else None


_RATES = text("SELECT * FROM rates WHERE rate_card_id = ANY(:ids)")


def _with_rates(connection: Connection, rows: Sequence[Any]) -> Sequence[SourcedRateCard]:
    by_card = rates_by_card(connection.execute(_RATES, {"ids": [row.rate_card_id for row in rows]}))
    return [sourced_rate_card(row, by_card.get(row.rate_card_id, ())) for row in rows]


_POLICIES = text(
    """
    SELECT * FROM cancel_policies WHERE CAST(:provider AS text) IS NULL OR provider = lower(:provider)
    ORDER BY provider, version
    """
)


def list_cancel_policies(connection: Connection, *, provider: str | None) -> Sequence[SourcedTerms]:
    """All policies of a provider, or of all, by provider and version; there are few."""
    rows = connection.execute(_POLICIES, {"provider": provider})
    return [SourcedTerms(cancel_terms_of_row(row), row.provenance, row.created_at) for row in rows]


_UPSTREAM_PRICES = text(
    """
    SELECT * FROM upstream_prices WHERE CAST(:provider AS text) IS NULL OR provider = lower(:provider)
    ORDER BY provider, effective_from
    """
)


def list_upstream_prices(connection: Connection, *, provider: str | None) -> Sequence[SourcedUpstreamPrice]:
    """Whether the costs of a provider, or of all, are accepted, by provider and date; there are few."""
    rows = connection.execute(_UPSTREAM_PRICES, {"provider": provider})
    return [SourcedUpstreamPrice(upstream_price_of_row(row), row.provenance, row.created_at) for row in rows]


_MARKUPS = text("SELECT * FROM markups WHERE customer_id = :customer_id ORDER BY effective_from")


def list_markups(connection: Connection, *, customer_id: str) -> Sequence[SourcedMarkup]:
    """A customer's markups, oldest first."""
    rows = connection.execute(_MARKUPS, {"customer_id": customer_id})
    return [SourcedMarkup(markup_of_row(row), row.provenance, row.created_at) for row in rows]


_IN_FORCE = text(
    """
    SELECT * FROM (
        SELECT DISTINCT ON (provider, model, coalesce(customer_id, '')) *
        FROM rate_cards WHERE effective_from <= :now
          AND (CAST(:only AS text) IS NULL OR customer_id IS NULL OR customer_id = :only)
        ORDER BY provider, model, coalesce(customer_id, ''), effective_from DESC
    ) AS newest
    WHERE (CAST(:provider AS text) IS NULL OR provider = :provider)
      AND (CAST(:model_contains AS text) IS NULL OR strpos(lower(model), lower(:model_contains)) > 0)
    ORDER BY provider, model, coalesce(customer_id, '') LIMIT :limit
    """
)


def rates_in_force(
    connection: Connection,
    *,
    now: datetime,
    provider: str | None,
    model_contains: str | None,
    only: str | None,
    limit: int,
) -> Sequence[SourcedRateCard]:
    """Up to `limit` cards in force, by (provider, model). `model_contains` is a part of the model's name.

    With the customer id `only`: shared cards and that customer's own. Without: the cards of all customers.
    """
    parameters = {"now": now, "provider": provider, "model_contains": model_contains, "only": only, "limit": limit}
    return _with_rates(connection, connection.execute(_IN_FORCE, parameters).all())


_RATED = text("SELECT DISTINCT provider FROM rate_cards ORDER BY provider")


def rated_providers(connection: Connection) -> Sequence[str]:
    """The providers that have a rate card."""
    return connection.execute(_RATED).scalars().all()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChangeView:
    """A price that the catalogue would change; what the usage of the month cost, and would have cost by it.

    `unpriced` streams have no rate in the new price and are in neither amount.
    """

    change_id: str
    provider: str
    model: str
    was: str
    becomes: str
    starts_at: datetime
    source: str
    period: str
    found_at: datetime
    customer_count: int
    unpriced: int
    usd_cents: Decimal
    would_cost_usd_cents: Decimal


_PRICE_CHANGES = text(
    """
    SELECT p.change_id, p.provider, p.model, p.was, p.becomes, p.starts_at, p.source, p.period, p.found_at,
           count(k.customer_id) AS customer_count, CAST(coalesce(sum(k.unpriced), 0) AS bigint) AS unpriced,
           coalesce(sum(k.usd_cents), 0) AS usd_cents,
           coalesce(sum(k.would_cost_usd_cents), 0) AS would_cost_usd_cents
    FROM price_changes p LEFT JOIN price_change_costs k ON k.change_id = p.change_id
    GROUP BY p.change_id
    ORDER BY abs(coalesce(sum(k.would_cost_usd_cents - k.usd_cents), 0)) DESC, p.provider, p.model LIMIT :limit
    """
)


def list_price_changes(connection: Connection, *, limit: int) -> Sequence[PriceChangeView]:
    """Open price changes, those with the largest difference first."""
    return [PriceChangeView(**row._mapping) for row in connection.execute(_PRICE_CHANGES, {"limit": limit})]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonHealth:
    """How many price changes are open, and when the catalogue was last compared; None if it never was."""

    open_changes: int
    compared_at: datetime | None


_COMPARED = text("SELECT (SELECT count(*) FROM price_changes) AS open_changes, compared_at FROM rate_comparisons")


def comparison_health(connection: Connection) -> ComparisonHealth:
    """The state of the comparison with the catalogue."""
    return ComparisonHealth(**connection.execute(_COMPARED).one()._mapping)
