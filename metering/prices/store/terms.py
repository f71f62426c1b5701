"""SQL that writes and loads what a price book has beside cards: names of providers, and terms."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from metering.db.rows import json_value
from metering.prices.cancel_policies import CancelPolicy, CancelTerms
from metering.prices.price_book import Markup, UpstreamPrice
from metering.prices.rate_book import Provider

FOREVER = datetime.max.replace(tzinfo=UTC)


def provider_of_row(row: Any) -> Provider:
    """A row of `rate_providers` as a record."""
    return Provider(provider=row.provider, names=row.names, serves_models_of=tuple(row.serves_models_of))


def cancel_terms_of_row(row: Any) -> CancelTerms:
    """A row of `cancel_policies` as a record."""
    return CancelTerms(
        provider=row.provider,
        policy=CancelPolicy(row.policy),
        version=row.version,
        effective_from=row.effective_from,
    )


def markup_of_row(row: Any) -> Markup:
    """A row of `markups` as a record."""
    return Markup(customer_id=row.customer_id, percent=row.percent, effective_from=row.effective_from)


_PROVIDERS = text(
    """
    SELECT * FROM (
        SELECT DISTINCT ON (provider) * FROM rate_providers WHERE created_at <= :known_at
        ORDER BY provider, created_at DESC
    ) AS newest ORDER BY position
    """
)


def load_providers(connection: Connection, *, known_at: datetime = FOREVER) -> list[Provider]:
    """The newest row of each provider at `known_at`, in the catalogue's order."""
    return [provider_of_row(row) for row in connection.execute(_PROVIDERS, {"known_at": known_at})]


_ADD_PROVIDERS = text(
    """
    INSERT INTO rate_providers (provider, names, serves_models_of, position, provenance, created_at)
    VALUES (:provider, CAST(:names AS jsonb), :serves_models_of, :position, :provenance, :now)
    """
)


def add_providers(
    connection: Connection, providers: Sequence[Provider], *, provenance: str, now: datetime
) -> None:
    """Add a new row for each provider; `providers` are in the catalogue's order."""
    if providers:
        rows = [
            {
                "provider": provider.provider,
                "names": json_value(provider.names),
                "serves_models_of": list(provider.serves_models_of),
                "position": position,
                "provenance": provenance,
                "now": now,
            }
            for position, provider in enumerate(providers)
        ]
        connection.execute(_ADD_PROVIDERS, rows)


_POLICIES = text("SELECT * FROM cancel_policies WHERE created_at <= :known_at")


def load_cancel_terms(connection: Connection, *, known_at: datetime = FOREVER) -> list[CancelTerms]:
    """All cancel policies that were set by `known_at`."""
    return [cancel_terms_of_row(row) for row in connection.execute(_POLICIES, {"known_at": known_at})]


_ADD_POLICY = text(
    """
    INSERT INTO cancel_policies (provider, version, policy, effective_from, provenance, created_at)
    SELECT :provider, coalesce(max(version), 0) + 1, :policy, CAST(:effective_from AS timestamptz), :provenance,
           CAST(:now AS timestamptz)
    FROM cancel_policies WHERE provider = :provider RETURNING version
    """
)


def add_cancel_policy(
    connection: Connection,
    *,
    provider: str,
    policy: CancelPolicy,
    effective_from: datetime,
    provenance: str,
    now: datetime,
) -> CancelTerms:
    """Add a policy as the next version of its provider.

    Raises:
        IntegrityError: the provider already has a policy effective from the same time.
    """
    parameters = {
        "provider": provider,
        "policy": policy.value,
        "effective_from": effective_from,
        "provenance": provenance,
        "now": now,
    }
    version: int = connection.execute(_ADD_POLICY, parameters).scalar_one()
    return CancelTerms(provider=provider, policy=policy, version=version, effective_from=effective_from)


_MARKUPS = text("SELECT * FROM markups WHERE created_at <= :known_at")


def load_markups(connection: Connection, *, known_at: datetime = FOREVER) -> list[Markup]:
    """All markups that were set by `known_at`."""
    return [markup_of_row(row) for row in connection.execute(_MARKUPS, {"known_at": known_at})]


_ADD_MARKUP = text(
    """
    INSERT INTO markups (customer_id, percent, effective_from, provenance, created_at)
    VALUES (:customer_id, :percent, :effective_from, :provenance, :now)
    """
)


def add_markup(
    connection: Connection,
    *,
    customer_id: str,
    percent: Decimal,
    effective_from: datetime,
    provenance: str,
    now: datetime,
) -> Markup:
    """Add a markup.

    Raises:
        IntegrityError: the customer already has a markup effective from the same time.
    """
    parameters = {
        "customer_id": customer_id,
        "percent": percent,
        "effective_from": effective_from,
        "provenance": provenance,
        "now": now,
    }
    connection.execute(_ADD_MARKUP, parameters)
    return Markup(customer_id=customer_id, percent=percent, effective_from=effective_from)


_UPSTREAM_PRICES = text("SELECT * FROM upstream_prices WHERE created_at <= :known_at")


def load_upstream_prices(connection: Connection, *, known_at: datetime = FOREVER) -> list[UpstreamPrice]:
    """For which providers the upstream's own cost was accepted, or no longer, as set by `known_at`."""
    return [upstream_price_of_row(row) for row in connection.execute(_UPSTREAM_PRICES, {"known_at": known_at})]


def upstream_price_of_row(row: Any) -> UpstreamPrice:
    """A row of `upstream_prices` as a record."""
    return UpstreamPrice(provider=row.provider, accepted=row.accepted, effective_from=row.effective_from)


_ADD_UPSTREAM_PRICE = text(
    """
    INSERT INTO upstream_prices (provider, accepted, effective_from, provenance, created_at)
    VALUES (:provider, :accepted, :effective_from, :provenance, :now)
    """
)


def add_upstream_price(connection: Connection, new: UpstreamPrice, *, provenance: str, now: datetime) -> None:
    """Add a row for a provider.

    Raises:
        IntegrityError: the provider already has one effective from the same time.
    """
    parameters = {
        "provider": new.provider,
        "accepted": new.accepted,
        "effective_from": new.effective_from,
        "provenance": provenance,
        "now": now,
    }
    connection.execute(_ADD_UPSTREAM_PRICE, parameters)
