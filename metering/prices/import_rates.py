"""Import rates: add what the catalogue has and the database lacks. Stored cards are never changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from metering.core.dates import histories, in_force
from metering.db.engine import transaction
from metering.prices.catalogue import Catalogue, Omission, Review
from metering.prices.rate_book import Provider
from metering.prices.rates import RateCard, id_by_content
from metering.prices.store.cards import SourcedRateCard, add_rate_cards, load_rate_cards
from metering.prices.store.terms import add_providers, load_providers


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChange:
    """A card that the import adds, and the model's card that is in force before it.

    `catalogue_card_id` is the id of the catalogue's card: `card` is the same one, or has its rates from now on.
    """

    card: RateCard
    instead_of: RateCard | None
    provenance: str
    catalogue_card_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import of the catalogue adds to the database, and what a person should look at."""

    source: str
    changes: Sequence[CardChange]
    providers: Sequence[Provider]
    unchanged: int
    omissions: Sequence[Omission]
    reviews: Sequence[Review]


def plan_import(connection: Connection, *, catalogue: Catalogue, now: datetime) -> ImportPlan:
    """What an import would add.

    If a price in force differs from the stored one of the same date, the new price takes effect at `now`.
    """
    known = [each for each in load_rate_cards(connection) if each.card.customer_id is None]
    changes = _changes(known, catalogue, now)
    named = load_providers(connection)
    return ImportPlan(
        source=catalogue.source,
        changes=changes,
        providers=catalogue.providers if list(catalogue.providers) != named else (),
        unchanged=len(catalogue.cards) - len(changes),
        omissions=catalogue.omissions,
        reviews=catalogue.reviews,
    )


def import_rates(*, engine: Engine, catalogue: Catalogue, now: datetime) -> ImportPlan:
    """Add the new cards of the catalogue. Streams that lacked a rate are rated by them."""
    with transaction(engine) as connection:
        plan = plan_import(connection, catalogue=catalogue, now=now)
        add_rate_cards(
            connection,
            [
                SourcedRateCard(card=change.card, provenance=change.provenance, created_at=now)
                for change in plan.changes
            ],
        )
        add_providers(connection, plan.providers, provenance=catalogue.source, now=now)
    return plan


def _changes(known: Sequence[SourcedRateCard], catalogue: Catalogue, now: datetime) -> list[CardChange]:
    stored = _by_model([each.card for each in known])
    set_by_hand = {each.card.rate_card_id for each in known if each.set_by_hand}
    return [
        change
        for model, cards in _by_model(catalogue.cards).items()
        for change in _changes_of_model(stored.get(model, ()), set_by_hand, cards, catalogue, now)
    ]


def _by_model(cards: Sequence[RateCard]) -> dict[tuple[str, str], list[RateCard]]:
    return histories(cards, key=lambda card: (card.provider, card.model))


def _changes_of_model(
    stored: Sequence[RateCard],
    set_by_hand: set[str],
    cards: Sequence[RateCard],
    catalogue: Catalogue,
    now: datetime,
) -> Iterator[CardChange]:
    """Cards for dates that are not stored; then the current rates, if they are still not in force."""
    dates = {card.effective_from for card in stored}
    added = [card for card in cards if card.effective_from not in dates]
    for card in added:
        instead_of = in_force(stored, card.effective_from) or (stored[-1] if stored else None)
        yield CardChange(
            card=card,
            instead_of=instead_of,
            provenance=catalogue.provenance(card),
            catalogue_card_id=card.rate_card_id,
        )
    current = in_force(cards, now)
    after = sorted([*stored, *added], key=lambda card: card.effective_from)
    in_force_then = in_force(after, now)
    imported = in_force([card for card in after if card.rate_card_id not in set_by_hand], now)
    if current is None or in_force_then is None or current in added:
        return
    # A price that a person set stays, unless the catalogue's own price has changed since it was imported.
    if current.rates != in_force_then.rates and (imported is None or current.rates != imported.rates):
        from_now = replace(current, effective_from=now)
        yield CardChange(
            card=replace(from_now, rate_card_id=id_by_content(from_now)),
            instead_of=in_force_then,
            provenance=catalogue.provenance(current),
            catalogue_card_id=current.rate_card_id,
        )
