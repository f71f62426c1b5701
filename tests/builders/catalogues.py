"""The installed catalogue, read once for all tests, and later versions of it with other prices of Anthropic."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from metering.prices.catalogue import Catalogue, read_catalogue
from metering.prices.rates import RateCard
from metering.prices.read_prices import own_prices, with_own_prices

CATALOGUE = read_catalogue()
# As `read_prices` reads them.
PRICES = with_own_prices(CATALOGUE, own_prices())


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
