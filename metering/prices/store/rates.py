"""Rate cards and providers' names: added, never changed."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from metering.db.tables import rate_cards, rate_providers, rates
from metering.prices.rate_book import Provider
from metering.prices.store.rate_rows import (
    SourcedRateCard,
    provider_of_row,
    rate_columns,
    rates_by_card,
    sourced_rate_card,
)


def add_rate_cards(connection: Connection, cards: Sequence[SourcedRateCard]) -> None:
    """Add cards with their rates; the database refuses a second one for an owner, a model and a moment."""
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
                "customer_id": new.card.customer_id,
                "provenance": new.provenance,
                "created_at": new.created_at,
            }
            for new in cards
        ],
    )
    new_rates = [
        {"rate_card_id": new.card.rate_card_id, "provenance": new.provenance, **rate_columns(rate)}
        for new in cards
        for rate in new.card.rates
    ]
    if new_rates:
        connection.execute(insert(rates), new_rates)


def load_rate_cards(connection: Connection) -> list[SourcedRateCard]:
    """Every card with its rates."""
    by_card = rates_by_card(connection.execute(select(rates)))
    rows = connection.execute(select(rate_cards))
    return [sourced_rate_card(row, by_card.get(row.rate_card_id, ())) for row in rows]


def has_rate_cards(connection: Connection) -> bool:
    """Whether there is any card at all."""
    return connection.execute(select(rate_cards.c.rate_card_id).limit(1)).first() is not None


FOREVER = datetime.max.replace(tzinfo=UTC)


def load_providers(connection: Connection, *, known_at: datetime = FOREVER) -> list[Provider]:
    """The newest of each provider's rows by then, in the catalogue's order."""
    known = select(rate_providers).where(rate_providers.c.created_at <= known_at)
    newest = known.ext(distinct_on(rate_providers.c.provider))
    rows = connection.execute(newest.order_by(rate_providers.c.provider, rate_providers.c.created_at.desc())).all()
    return [provider_of_row(row) for row in sorted(rows, key=lambda row: row.position)]


def add_providers(
    connection: Connection, providers: Sequence[Provider], *, provenance: str, now: datetime
) -> None:
    """Add what providers are called from now on; they are given in the catalogue's order."""
    if providers:
        connection.execute(
            insert(rate_providers),
            [
                {
                    "provider": provider.provider,
                    "names": provider.names,
                    "serves_models_of": list(provider.serves_models_of),
                    "position": position,
                    "provenance": provenance,
                    "created_at": now,
                }
                for position, provider in enumerate(providers)
            ],
        )
