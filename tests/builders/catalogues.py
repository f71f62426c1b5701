"""Catalogues of a later version, in which some prices of Anthropic are others."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from metering.prices.catalogue import Catalogue
from metering.prices.rates import RateCard
from metering.prices.read_prices import read_prices

PRICES = read_prices()


def dearer(factors: Mapping[str, int | str] | None = None, *, source: str = "genai-prices 0.2.4") -> Catalogue:
    """Anthropic's rates, those of these models multiplied by their factor."""
    wanted = factors or {}
    cards = [
        times(card, wanted[card.model]) if card.model in wanted else card
        for card in PRICES.cards
        if card.provider == "anthropic"
    ]
    return Catalogue(source=source, cards=cards, providers=PRICES.providers, omissions=())


def times(card: RateCard, factor: int | str) -> RateCard:
    """The card with each rate multiplied."""
    rates = tuple(replace(rate, usd_per_million=rate.usd_per_million * Decimal(factor)) for rate in card.rates)
    return replace(card, rates=rates, rate_card_id=f"{card.rate_card_id}x{factor}")
