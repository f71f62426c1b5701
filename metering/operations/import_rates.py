"""Import rates: add what the catalogue has and the database lacks. Cards that are in force are never changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from metering.catalogue.genai import Catalogue, Omission
from metering.domain.rates import RateCard
from metering.records.rates import SourcedRateCard
from metering.store.engine import transaction
from metering.store.rates import add_rate_cards, load_rate_cards
from metering.store.streams import wake_unpriced


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import added. `woken` unpriced streams are looked at again."""

    source: str
    added: Sequence[RateCard]
    unchanged: int
    omissions: Sequence[Omission]
    woken: int


def import_rates(*, engine: Engine, catalogue: Catalogue, now: datetime) -> ImportResult:
    """Add the catalogue's cards that say something new, and wake the streams that waited for a rate.

    A price that differs from the stored one for the same date takes effect from `now`: what was in force keeps
    its past.
    """
    with transaction(engine) as connection:
        known = load_rate_cards(connection)
        added = plan_import(known=known, catalogue=catalogue, now=now)
        add_rate_cards(
            connection, cards=[SourcedRateCard(card=card, provenance=catalogue.source) for card in added], now=now
        )
        woken = _wake(connection, added, now)
    return ImportResult(
        source=catalogue.source,
        added=added,
        unchanged=len(catalogue.cards) - len(added),
        omissions=catalogue.omissions,
        woken=woken,
    )


def plan_import(*, known: Sequence[RateCard], catalogue: Catalogue, now: datetime) -> list[RateCard]:
    """The cards that the import would add."""
    stored = {(card.provider, card.model, card.effective_from): card for card in known}
    newest: dict[tuple[str, str], RateCard] = {}
    for card in sorted(known, key=lambda card: card.effective_from):
        newest[card.provider, card.model] = card
    added: list[RateCard] = []
    for card in catalogue.cards:
        same_date = stored.get((card.provider, card.model, card.effective_from))
        if same_date is None:
            added.append(card)
        elif same_date.rates != card.rates and _is_latest(card, catalogue):
            in_force = newest[card.provider, card.model]
            if in_force.rates != card.rates:
                added.append(replace(card, effective_from=now, rate_card_id=f"{card.rate_card_id}_{now:%Y%m%d}"))
    return added


def _is_latest(card: RateCard, catalogue: Catalogue) -> bool:
    return not any(
        other.provider == card.provider
        and other.model == card.model
        and other.effective_from > card.effective_from
        for other in catalogue.cards
    )


def _wake(connection: Connection, added: Sequence[RateCard], now: datetime) -> int:
    providers = sorted({card.provider for card in added})
    return wake_unpriced(connection, providers=providers, now=now) if providers else 0
