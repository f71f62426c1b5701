"""Import rates: add what the catalogue has and the database lacks. Stored cards are never changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.core.dates import histories, in_force
from metering.core.ids import digest
from metering.db.engine import transaction
from metering.prices.catalogue import Catalogue, Omission, Review
from metering.prices.rate_book import Provider
from metering.prices.rates import RateCard, id_by_content
from metering.prices.store.cards import SourcedRateCard, add_rate_cards, load_rate_cards
from metering.prices.store.changes import close_changes_of_models, keep_cards, kept_cards
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
class PriceChange:
    """A model whose current or next price an import would change: the card before and after it.

    `change_id` follows from the catalogue's cards, so that the same change has the same id tomorrow.
    """

    change_id: str
    provider: str
    model: str
    was: RateCard
    becomes: RateCard


@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """The models that an import is limited to; None does not limit it."""

    provider: str | None = None
    model: str | None = None

    def covers(self, card: RateCard) -> bool:
        """Whether the import adds this card."""
        return self.provider in (None, card.provider) and self.model in (None, card.model)


EVERY_MODEL = Only()
# An import of the whole catalogue has thousands of cards.
_MAX_NAMED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What an import of the catalogue adds to the database, and what a person should look at.

    `price_changes` are the models whose price it changes; `kept` counts the cards that an operator decided not to
    import.
    """

    source: str
    changes: Sequence[CardChange]
    price_changes: Sequence[PriceChange]
    providers: Sequence[Provider]
    unchanged: int
    kept: int
    omissions: Sequence[Omission]
    reviews: Sequence[Review]


def plan_import(
    connection: Connection, *, catalogue: Catalogue, now: datetime, only: Only = EVERY_MODEL
) -> ImportPlan:
    """What an import would add.

    If a price in force differs from the stored one of the same date, the new price takes effect at `now`.
    """
    known = [each for each in load_rate_cards(connection) if each.card.customer_id is None]
    found = _changes(known, catalogue, now)
    kept = kept_cards(connection)
    changes = [each for each in found if each.catalogue_card_id not in kept and only.covers(each.card)]
    named = load_providers(connection)
    is_whole = only == EVERY_MODEL
    return ImportPlan(
        source=catalogue.source,
        changes=changes,
        price_changes=_price_changes([each.card for each in known], changes, now),
        providers=catalogue.providers if is_whole and list(catalogue.providers) != named else (),
        unchanged=len(catalogue.cards) - len(found),
        kept=sum(each.catalogue_card_id in kept for each in found),
        omissions=catalogue.omissions,
        reviews=catalogue.reviews,
    )


def keep_rates(
    *, engine: Engine, catalogue: Catalogue, now: datetime, kept_by: Author, only: Only = EVERY_MODEL
) -> ImportPlan:
    """Keep the stored prices: what an import would add now is not offered again, unless the catalogue changes."""
    with transaction(engine) as connection:
        plan = plan_import(connection, catalogue=catalogue, now=now, only=only)
        cards = {each.catalogue_card_id: each.card for each in plan.changes}
        keep_cards(connection, cards, source=catalogue.source, kept_by=str(kept_by), now=now)
        close_changes_of_models(connection, models=_models(plan))
        _log(connection, "keep", plan, kept_by, now)
    return plan


def import_rates(
    *, engine: Engine, catalogue: Catalogue, now: datetime, by: Author = "metering", only: Only = EVERY_MODEL
) -> ImportPlan:
    """Add the new cards of the catalogue. Streams that lacked a rate are rated by them."""
    with transaction(engine) as connection:
        plan = plan_import(connection, catalogue=catalogue, now=now, only=only)
        add_rate_cards(
            connection,
            [
                SourcedRateCard(card=change.card, provenance=change.provenance, created_at=now)
                for change in plan.changes
            ],
        )
        add_providers(connection, plan.providers, provenance=catalogue.source, now=now)
        close_changes_of_models(connection, models=_models(plan))
        _log(connection, "import", plan, by, now)
    return plan


def _log(connection: Connection, action: str, plan: ImportPlan, by: Author, now: datetime) -> None:
    """One row for all cards; each card itself is never changed, and says where it comes from."""
    if not (plan.changes or plan.providers):
        return
    cards = [change.card.rate_card_id for change in plan.changes]
    after = {
        "cards": len(cards),
        "first_cards": cards[:_MAX_NAMED],
        "cards_digest": digest(*cards),
        "providers": len(plan.providers),
    }
    log_action(connection, by=by, now=now, kind="catalogue", action=action, subject=plan.source, after=after)


def _models(plan: ImportPlan) -> set[tuple[str, str]]:
    return {(change.card.provider, change.card.model) for change in plan.changes}


def _price_changes(stored: Sequence[RateCard], changes: Sequence[CardChange], now: datetime) -> list[PriceChange]:
    before, added = _by_model(stored), _by_model([each.card for each in changes])
    found: list[PriceChange] = []
    for (provider, model), cards in added.items():
        was = in_force(before.get((provider, model), ()), now)
        if was is None:
            continue
        after = sorted([*before[provider, model], *cards], key=lambda card: card.effective_from)
        current = in_force(after, now)
        becomes = (
            current if current is not was else next((card for card in cards if card.effective_from > now), None)
        )
        # Cards for the past only, or with the rates of before, change no price.
        if becomes is not None and becomes.rates != was.rates:
            of_model = [each for each in changes if (each.card.provider, each.card.model) == (provider, model)]
            ids = sorted(each.catalogue_card_id for each in of_model)
            found.append(
                PriceChange(change_id=digest(*ids), provider=provider, model=model, was=was, becomes=becomes)
            )
    return found


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
