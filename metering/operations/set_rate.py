"""Set a rate: a new dated card beside the ones that are there. What is booked stays as it is."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from metering.catalogue.genai import rate_card_id_of
from metering.domain.errors import MeteringError
from metering.domain.rates import Rate, RateCard
from metering.domain.usage import UsageKind
from metering.records.rates import SourcedRateCard
from metering.store.engine import transaction
from metering.store.rates import add_rate_cards, load_rate_cards
from metering.store.streams import wake_unpriced


class InvalidRateError(MeteringError):
    """The rates do not make a card."""


class RateDateTakenError(MeteringError):
    """This model has a card from this very moment already; cards are never changed."""


def set_rate(
    *,
    engine: Engine,
    provider: str,
    model: str,
    effective_from: datetime,
    rates: Sequence[Rate],
    set_by: str,
    now: datetime,
) -> RateCard:
    """Add a rate card for a model and wake the streams that waited for one.

    Raises:
        InvalidRateError: there is no base rate for input, or a rate is given twice.
        RateDateTakenError: another card of the model takes effect at the same moment.
    """
    _check(rates)
    with transaction(engine) as connection:
        known = [card for card in load_rate_cards(connection) if (card.provider, card.model) == (provider, model)]
        card = RateCard(
            rate_card_id=rate_card_id_of(
                provider=provider, model=model, effective_from=effective_from, rates=rates
            ),
            provider=provider,
            model=model,
            effective_from=effective_from,
            rates=tuple(rates),
            names=known[0].names if known else {"equals": model},
            position=known[0].position if known else None,
        )
        try:
            add_rate_cards(connection, cards=[SourcedRateCard(card=card, provenance=f"set by {set_by}")], now=now)
        except IntegrityError as error:
            raise RateDateTakenError(
                f"effective_from: {provider}/{model} has a card from {effective_from.isoformat()} already; "
                "choose another moment"
            ) from error
        wake_unpriced(connection, providers=[provider], now=now)
    return card


def _check(rates: Sequence[Rate]) -> None:
    if not any(rate.kind is UsageKind.INPUT and rate.above_input_tokens == 0 for rate in rates):
        raise InvalidRateError("rates: a card needs a rate for kind input without above_input_tokens")
    places = [(rate.kind, rate.above_input_tokens) for rate in rates]
    if len(set(places)) < len(places):
        raise InvalidRateError("rates: a kind has two rates for the same input size")
    for kind, above in places:
        if above and (kind, 0) not in places:
            raise InvalidRateError(f"rates: kind {kind.value} has a tier but no rate without above_input_tokens")
