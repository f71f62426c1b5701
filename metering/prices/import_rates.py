"""Import rates: add what the catalogue has and the database lacks. Stored cards are never changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from metering.db.engine import transaction
from metering.prices.catalogue import Catalogue, Omission
from metering.prices.rate_book import Provider
from metering.prices.rates import RateCard, id_by_content
from metering.prices.store.cards import SourcedRateCard, add_rate_cards, load_rate_cards
from metering.prices.store.terms import add_providers, load_providers


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChange:
    """A card that the import adds, and the model's newest card before it."""

    card: RateCard
    instead_of: RateCard | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import of the catalogue adds to the database."""

    source: str
    changes: Sequence[CardChange]
    providers: Sequence[Provider]
    unchanged: int
    omissions: Sequence[Omission]


def plan_import(connection: Connection, *, catalogue: Catalogue, now: datetime) -> ImportPlan:
    """What an import would add.

    If a price differs from the stored one of the same date, the new price takes effect at `now`.
    """
    known = [each.card for each in load_rate_cards(connection) if each.card.customer_id is None]
    changes = _changes(known, catalogue, now)
    named = load_providers(connection)
    return ImportPlan(
        source=catalogue.source,
        changes=changes,
        providers=catalogue.providers if list(catalogue.providers) != named else (),
        unchanged=len(catalogue.cards) - len(changes),
        omissions=catalogue.omissions,
    )


def import_rates(*, engine: Engine, catalogue: Catalogue, now: datetime) -> ImportPlan:
    """Add the new cards of the catalogue. Streams that lacked a rate are rated by them."""
    with transaction(engine) as connection:
        plan = plan_import(connection, catalogue=catalogue, now=now)
        add_rate_cards(
            connection,
            [
                SourcedRateCard(card=change.card, provenance=catalogue.source, created_at=now)
                for change in plan.changes
            ],
        )
        add_providers(connection, plan.providers, provenance=catalogue.source, now=now)
    return plan


def _changes(known: Sequence[RateCard], catalogue: Catalogue, now: datetime) -> list[CardChange]:
    stored = {(card.provider, card.model, card.effective_from): card for card in known}
    newest: dict[tuple[str, str], RateCard] = {}
    for card in sorted(known, key=lambda card: card.effective_from):
        newest[card.provider, card.model] = card
    latest = {(card.provider, card.model): card for card in catalogue.cards}
    changes: list[CardChange] = []
    for card in catalogue.cards:
        model = (card.provider, card.model)
        same_date, in_force = stored.get((*model, card.effective_from)), newest.get(model)
        if same_date is None:
            changes.append(CardChange(card=card, instead_of=in_force))
        elif (
            card is latest[model] and in_force is not None and card.rates not in (same_date.rates, in_force.rates)
        ):
            from_now = replace(card, effective_from=now)
            from_now = replace(from_now, rate_card_id=id_by_content(from_now))
            changes.append(CardChange(card=from_now, instead_of=in_force))
    return changes
