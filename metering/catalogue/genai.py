"""The pinned genai-prices catalogue as dated rate cards, and a plain account of what could not be taken over.

What our contract cannot meter or express is never dropped silently: a model whose price depends on something
other than its date, tokens and input size is skipped by name; other price kinds are named beside the model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from metering.domain.errors import MeteringError
from metering.domain.rates import NameClause, Rate, RateCard
from metering.domain.usage import UsageKind

# A price without a start date has, as far as the catalogue knows, always been in force.
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)

_KIND_OF_PRICE = {
    "input_mtok": UsageKind.INPUT,
    "output_mtok": UsageKind.OUTPUT,
    "cache_read_mtok": UsageKind.CACHE_READ,
    "cache_write_mtok": UsageKind.CACHE_WRITE,
    "input_audio_mtok": UsageKind.INPUT_AUDIO,
    "output_audio_mtok": UsageKind.OUTPUT_AUDIO,
    "output_reasoning_mtok": UsageKind.REASONING,
}
_CLAUSE_OPERATORS = ("equals", "starts_with", "ends_with", "contains", "regex")


class UnknownClauseError(MeteringError):
    """The catalogue says which names a model has in a way that this version cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Omission:
    """Something of the catalogue that our rate cards do not carry. `model` is left without rates if `skipped`."""

    provider: str
    model: str
    reason: str
    skipped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All rate cards of one version of the catalogue. `source` names the package and its version."""

    source: str
    cards: Sequence[RateCard]
    omissions: Sequence[Omission]


def read_catalogue() -> Catalogue:
    """The catalogue that is installed, without asking a network."""
    source = f"genai-prices {version('genai-prices')}"
    cards: list[RateCard] = []
    omissions: list[Omission] = []
    for provider in get_snapshot().providers:
        for position, model in enumerate(provider.models):
            if reason := _reason_to_skip(model):
                omissions.append(_omission(provider.id, model, reason, skipped=True))
                continue
            cards += _cards_of_model(provider.id, model, position)
            omissions += [
                _omission(provider.id, model, reason, skipped=False) for reason in sorted(_left_out(model))
            ]
    return Catalogue(source=source, cards=cards, omissions=omissions)


def _omission(provider: str, model: ModelInfo, reason: str, *, skipped: bool) -> Omission:
    return Omission(provider=provider, model=model.id, reason=reason, skipped=skipped)


def _reason_to_skip(model: ModelInfo) -> str | None:
    if any(isinstance(constraint, TimeOfDateConstraint) for constraint, _ in _conditions(model)):
        return "its price depends on the time of day"
    if not any(_rates(prices) for _, prices in _conditions(model)):
        return "it has no price per token"
    return None


def _left_out(model: ModelInfo) -> set[str]:
    kinds = {key for _, prices in _conditions(model) for key, _ in _prices(prices) if key not in _KIND_OF_PRICE}
    variants = {
        "variant " + ", ".join(f"{name}={value}" for name, value in sorted(variant.when.items()))
        for variant in model.price_variants or ()
    }
    return {f"price kind {kind}" for kind in kinds} | variants


def _conditions(model: ModelInfo) -> list[tuple[object, ModelPrice]]:
    if isinstance(model.prices, ModelPrice):
        return [(None, model.prices)]
    return [(conditional.constraint, conditional.prices) for conditional in model.prices]


def _cards_of_model(provider: str, model: ModelInfo, position: int) -> list[RateCard]:
    """One card for each stretch of time; the catalogue itself says which prices apply at its first moment."""
    starts = {ALWAYS} | {
        datetime.combine(constraint.start_date, time(), UTC)
        for constraint, _ in _conditions(model)
        if isinstance(constraint, StartDateConstraint)
    }
    cards: list[RateCard] = []
    for effective_from in sorted(starts):
        rates = _rates(model.get_prices(effective_from))
        if cards and cards[-1].rates == rates:
            continue
        cards.append(
            RateCard(
                rate_card_id=rate_card_id_of(
                    provider=provider, model=model.id, effective_from=effective_from, rates=rates
                ),
                provider=provider,
                model=model.id,
                effective_from=effective_from,
                rates=rates,
                names=_clause(model.match),
                position=position,
            )
        )
    return cards


def rate_card_id_of(*, provider: str, model: str, effective_from: datetime, rates: Iterable[Rate]) -> str:
    """A card's id follows from what it says, so the same import made twice yields the same cards."""
    parts = [provider, model, effective_from.isoformat()]
    parts += [f"{rate.kind.value}>{rate.above_input_tokens}={rate.usd_per_million.normalize()}" for rate in rates]
    return f"rc_{blake2b('|'.join(parts).encode(), digest_size=10).hexdigest()}"


def _prices(prices: ModelPrice) -> list[tuple[str, Decimal | TieredPrices]]:
    return [(key, value) for key, value in vars(prices).items() if value is not None and not key.startswith("_")]


def _rates(prices: ModelPrice) -> tuple[Rate, ...]:
    rates: list[Rate] = []
    for key, price in _prices(prices):
        kind = _KIND_OF_PRICE.get(key)
        if kind is None:
            continue
        if isinstance(price, TieredPrices):
            rates.append(Rate(kind=kind, usd_per_million=price.base))
            rates += [
                Rate(kind=kind, usd_per_million=tier.price, above_input_tokens=tier.start) for tier in price.tiers
            ]
        else:
            rates.append(Rate(kind=kind, usd_per_million=price))
    return tuple(sorted(rates, key=lambda rate: (rate.kind.value, rate.above_input_tokens)))


def _clause(clause: Any) -> NameClause:
    for operator in _CLAUSE_OPERATORS:
        if hasattr(clause, operator):
            return {operator: getattr(clause, operator)}
    if hasattr(clause, "or_"):
        return {"or": [_clause(inner) for inner in clause.or_]}
    if hasattr(clause, "and_"):
        return {"and": [_clause(inner) for inner in clause.and_]}
    raise UnknownClauseError(f"genai-prices has a name clause that is unknown here: {type(clause).__name__}")
