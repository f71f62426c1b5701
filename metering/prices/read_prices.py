"""Read prices: the catalogue, with our own prices where it cannot be right (`own_prices.toml`)."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any

from metering.core.errors import MeteringError
from metering.core.ids import digest
from metering.events.usage import UsageKind
from metering.prices.catalogue import Catalogue, Review, read_catalogue
from metering.prices.check_rates import InvalidRateError, check_rates
from metering.prices.model_names import NameClause
from metering.prices.rate_text import parse_rate
from metering.prices.rates import Rate, RateCard, id_by_content, in_order

_FILE = "own_prices.toml"


class InvalidOwnPriceError(MeteringError):
    """An entry of `own_prices.toml` cannot be read; the message names the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPrice:
    """A model's prices from `own_prices.toml`, which explains the fields.

    Either `periods` (from when which rates are in force) or `same_price` (a kind that costs the same as another).
    `catalogue` is None for a model that the catalogue does not have; then `names` say which names mean it.
    """

    provider: str
    model: str
    source: str
    reviewed: str
    catalogue: str | None
    names: NameClause | None
    review_by: date | None
    periods: Sequence[tuple[datetime, tuple[Rate, ...]]]
    same_price: Mapping[UsageKind, UsageKind]

    @property
    def provenance(self) -> str:
        """What a card of these prices says of itself."""
        return f"own, {'instead of' if self.catalogue else 'beside'} {self.reviewed}: {self.source}"


def read_prices() -> Catalogue:
    """The installed catalogue with our own prices; this needs no network.

    Raises:
        UnknownClauseError: the catalogue has a kind of name clause that this version cannot read.
        InvalidOwnPriceError: an own price cannot be read.
    """
    return with_own_prices(read_catalogue(), own_prices())


def own_prices() -> Sequence[OwnPrice]:
    """The prices in `own_prices.toml`.

    Raises:
        InvalidOwnPriceError: one of them cannot be read.
    """
    with files("metering.prices").joinpath(_FILE).open("rb") as file:
        return [_own_price(entry) for entry in tomllib.load(file)["model"]]


def _own_price(entry: Mapping[str, Any]) -> OwnPrice:
    try:
        prices = {name: _rates(texts) for name, texts in entry.get("prices", {}).items()}
        return OwnPrice(
            provider=entry["provider"],
            model=entry["model"],
            source=entry["source"],
            reviewed=entry["reviewed"],
            catalogue=entry.get("catalogue"),
            names=entry.get("names"),
            review_by=entry.get("review_by"),
            periods=[(each["from"].astimezone(UTC), prices[each["prices"]]) for each in entry.get("periods", ())],
            same_price={UsageKind(kind): UsageKind(as_) for kind, as_ in entry.get("same_price", {}).items()},
        )
    except (KeyError, ValueError, InvalidRateError) as error:
        name = f"{entry.get('provider')}/{entry.get('model')}"
        raise InvalidOwnPriceError(f"{_FILE}: {name}: {error}") from error


def _rates(texts: Sequence[str]) -> tuple[Rate, ...]:
    rates = in_order(map(parse_rate, texts))
    check_rates(rates)
    return rates


def with_own_prices(catalogue: Catalogue, own: Sequence[OwnPrice]) -> Catalogue:
    """The catalogue with these prices in place of all of its cards for their models.

    `reviews` lists the own prices for whose models the catalogue has changed since they were compared.
    """
    of_model: dict[tuple[str, str], list[RateCard]] = {}
    for card in catalogue.cards:
        of_model.setdefault((card.provider, card.model), []).append(card)
    provenances: dict[str, str] = {}
    reviews: list[Review] = []
    for price in own:
        key = (price.provider, price.model)
        theirs = of_model.get(key, [])
        cards = list(_cards(price, theirs))
        reviews += _reviews(price, theirs, cards)
        if cards:
            of_model[key] = cards
            provenances |= {card.rate_card_id: price.provenance for card in cards}
    return replace(
        catalogue,
        cards=[card for cards in of_model.values() for card in cards],
        provenances=provenances,
        reviews=reviews,
    )


def _cards(price: OwnPrice, theirs: Sequence[RateCard]) -> Iterator[RateCard]:
    names = theirs[0].names if theirs else price.names or {"equals": price.model}
    position = theirs[0].position if theirs else _BEFORE_OTHERS if "equals" in names else _AFTER_OTHERS
    for effective_from, rates in price.periods:
        yield _with_id(
            RateCard(
                rate_card_id="",
                provider=price.provider,
                model=price.model,
                effective_from=effective_from,
                rates=rates,
                names=names,
                position=position,
            )
        )
    if price.same_price:
        for card in theirs:
            yield _with_id(replace(card, rates=in_order([*card.rates, *_same(price.same_price, card.rates)])))


# The place of models that the catalogue does not have: one name is more specific than the catalogue's clauses, a
# pattern is less specific.
_BEFORE_OTHERS, _AFTER_OTHERS = -1, 1_000_000


def _same(same_price: Mapping[UsageKind, UsageKind], rates: Sequence[Rate]) -> Iterator[Rate]:
    priced = {rate.kind for rate in rates}
    for kind, as_ in same_price.items():
        if kind not in priced:
            yield from (replace(rate, kind=kind) for rate in rates if rate.kind is as_)


def _with_id(card: RateCard) -> RateCard:
    return replace(card, rate_card_id=id_by_content(card))


def _reviews(price: OwnPrice, theirs: Sequence[RateCard], ours: Sequence[RateCard]) -> Iterator[Review]:
    found = None
    if [(card.effective_from, card.rates) for card in theirs] == [
        (card.effective_from, card.rates) for card in ours
    ]:
        found = "the catalogue has caught up: remove the own price"
    elif price.catalogue is None and theirs:
        found = "the catalogue has a price for this model now"
    elif price.catalogue is not None and not theirs:
        found = "the catalogue does not have this model any more"
    elif price.catalogue is not None and price.catalogue != catalogue_digest(theirs):
        found = f"the catalogue has changed since {price.reviewed}"
    if found is not None or price.review_by is not None:
        yield Review(provider=price.provider, model=price.model, finding=found, review_by=price.review_by)


def catalogue_digest(cards: Sequence[RateCard]) -> str:
    """Identifies what the catalogue says of a model; `cards` are all of its cards."""
    return digest(*[card.rate_card_id for card in cards])
