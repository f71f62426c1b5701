"""The pinned genai-prices catalogue as dated rate cards, and the list of what could not be imported.

Nothing is dropped silently: a model without a price for usage is listed as skipped; price kinds that we do not
meter, and conditions that no event reports, are listed with their model.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from metering.events.usage import COUNTER_OF_KIND, UsageKind
from metering.prices.model_names import NameClause, UnknownClauseError
from metering.prices.rate_book import Provider
from metering.prices.rates import ALWAYS, Rate, RateCard, in_order, priced, rate_card_id_of
from metering.prices.windows import DailyWindow

_KIND_OF_PRICE = {
    "input_mtok": UsageKind.INPUT,
    "output_mtok": UsageKind.OUTPUT,
    "cache_read_mtok": UsageKind.CACHE_READ,
    "cache_write_mtok": UsageKind.CACHE_WRITE,
    "cache_write_1h_mtok": UsageKind.CACHE_WRITE_1H,
    "cache_audio_read_mtok": UsageKind.CACHE_READ_AUDIO,
    "cache_image_read_mtok": UsageKind.CACHE_READ_IMAGE,
    "input_audio_mtok": UsageKind.INPUT_AUDIO,
    "input_image_mtok": UsageKind.INPUT_IMAGE,
    "input_video_mtok": UsageKind.INPUT_VIDEO,
    "output_reasoning_mtok": UsageKind.REASONING,
    "output_citation_mtok": UsageKind.CITATION,
    "output_audio_mtok": UsageKind.OUTPUT_AUDIO,
    "output_image_mtok": UsageKind.OUTPUT_IMAGE,
    "output_video_mtok": UsageKind.OUTPUT_VIDEO,
    "audio_hours": UsageKind.AUDIO_SECONDS,
    "input_audio_hours": UsageKind.INPUT_AUDIO_SECONDS,
    "input_mchars": UsageKind.INPUT_CHARACTERS,
    "input_document_kpages": UsageKind.INPUT_DOCUMENT_PAGES,
    "input_annotated_document_kpages": UsageKind.INPUT_ANNOTATED_DOCUMENT_PAGES,
    "input_text_messages_kcount": UsageKind.INPUT_TEXT_MESSAGES,
    "web_searches_kcount": UsageKind.WEB_SEARCHES,
    "storage_searches_kcount": UsageKind.STORAGE_SEARCHES,
    "requests_kcount": UsageKind.REQUEST,
}
# Prices are per million units or per hour, as rates are, except those whose names end so.
_PER_THOUSAND = ("_kcount", "_kpages")
_TOKENS = {kind for kind, counter in COUNTER_OF_KIND.items() if counter.endswith("_tokens")}
_CLAUSE_OPERATORS = ("equals", "starts_with", "ends_with", "contains", "regex")

# Conditions of the catalogue whose value an event reports as `service_tier`. Anthropic reports "batch" as the
# service tier of its Message Batches; gateways report its speed mode as "fast".
_TIER_CONDITIONS = ("service_tier", "processing", "speed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Omission:
    """A part of the catalogue that is not imported. If `skipped`, the model has no rates."""

    provider: str
    model: str
    reason: str
    skipped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """An own price that a person has to look at: because of `finding`, or once the date `review_by` has passed."""

    provider: str
    model: str
    finding: str | None
    review_by: date | None

    def due(self, *, today: date) -> str | None:
        """Why it is to be reviewed; None if it is not, yet."""
        if self.finding is None and self.review_by is not None and today > self.review_by:
            return f"its prices are known until {self.review_by} only"
        return self.finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All rate cards of one version of the catalogue. `source` names the package and its version.

    `provenances` has the source of each card that comes from elsewhere, by its id (`read_prices.py`).
    """

    source: str
    cards: Sequence[RateCard]
    providers: Sequence[Provider]
    omissions: Sequence[Omission]
    provenances: Mapping[str, str] = field(default_factory=dict)
    reviews: Sequence[Review] = ()

    def provenance(self, card: RateCard) -> str:
        """Where the prices of one of its cards come from."""
        return self.provenances.get(card.rate_card_id, self.source)


def read_catalogue() -> Catalogue:
    """Read the installed catalogue; this needs no network.

    Raises:
        UnknownClauseError: it has a kind of name clause that this version cannot read.
    """
    cards: list[RateCard] = []
    omissions: list[Omission] = []
    providers: list[Provider] = []
    for provider in get_snapshot().providers:
        providers.append(
            Provider(
                provider=provider.id,
                names=_clause(provider.provider_match) if provider.provider_match else None,
                serves_models_of=tuple(provider.fallback_model_providers or ()),
            )
        )
        for position, model in enumerate(provider.models):
            if unread := _unread_conditions(model):
                reason = f"its price depends on a {unread}, which this version cannot read"
                omissions.append(_omission(provider.id, model, reason, skipped=True))
                continue
            if not any(_prices_usage(prices) for _, prices in _conditions(model)):
                omissions.append(_omission(provider.id, model, "it has no price for usage", skipped=True))
                continue
            cards += _cards_of_model(provider.id, model, position)
            omissions += [
                _omission(provider.id, model, reason, skipped=False) for reason in sorted(_left_out(model))
            ]
    return Catalogue(
        source=f"genai-prices {version('genai-prices')}", cards=cards, providers=providers, omissions=omissions
    )


def _omission(provider: str, model: ModelInfo, reason: str, *, skipped: bool) -> Omission:
    return Omission(provider=provider, model=model.id, reason=reason, skipped=skipped)


def _left_out(model: ModelInfo) -> set[str]:
    kinds = {key for _, prices in _conditions(model) for key, _ in _prices(prices) if key not in _KIND_OF_PRICE}
    unreported = {
        "price where " + ", ".join(f"{name} is {value}" for name, value in sorted(variant.when.items()))
        for variant in model.price_variants or ()
        if _tier_of(variant) is None
    }
    priced_kinds = {rate.kind for _, prices in _conditions(model) for rate in _standard_rates(prices)}
    missing = {
        f"no price for {kind.value}: a stream that has some is unpriced"
        for kind in (UsageKind.INPUT, UsageKind.OUTPUT)
        if priced_kinds & _TOKENS and kind not in priced_kinds
    }
    return {f"price kind {kind}" for kind in kinds} | unreported | missing


def _unread_conditions(model: ModelInfo) -> str | None:
    """A kind of condition that a newer catalogue may have; to ignore it would give a wrong price."""
    constraints = [constraint for constraint, _ in _conditions(model)]
    constraints += [variant.constraint for variant in model.price_variants or ()]
    known = (type(None), StartDateConstraint, TimeOfDateConstraint)
    return next((type(each).__name__ for each in constraints if not isinstance(each, known)), None)


def _conditions(model: ModelInfo) -> list[tuple[object, ModelPrice]]:
    if isinstance(model.prices, ModelPrice):
        return [(None, model.prices)]
    return [(conditional.constraint, conditional.prices) for conditional in model.prices]


def _tier_of(variant: PriceVariant) -> str | None:
    """The service tier of a variant; None if the variant depends on something that no event reports."""
    ((name, value), *others) = variant.when.items()
    return value.lower() if name in _TIER_CONDITIONS and not others else None


def _cards_of_model(provider: str, model: ModelInfo, position: int) -> list[RateCard]:
    """One card per time at which prices change; the catalogue itself looks up the prices of that time."""
    constraints = [constraint for constraint, _ in _conditions(model)]
    constraints += [variant.constraint for variant in model.price_variants or ()]
    starts = {
        datetime.combine(constraint.start_date, time(), UTC)
        for constraint in constraints
        if isinstance(constraint, StartDateConstraint)
    }
    windows = _windows([constraint for constraint in constraints if isinstance(constraint, TimeOfDateConstraint)])
    cards: list[RateCard] = []
    for effective_from in sorted({ALWAYS} | starts):
        rates = in_order(rate for window in windows for rate in _rates(model, effective_from, window))
        if not rates or (cards and cards[-1].rates == rates):
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


def _windows(constraints: Sequence[TimeOfDateConstraint]) -> list[DailyWindow | None]:
    """The parts of the day within which no constraint starts or ends; [None] is the whole day."""
    edges = sorted({_utc(edge) for each in constraints for edge in (each.start_time, each.end_time)})
    if len(edges) < 2:
        return [None]
    return [DailyWindow(start, end) for start, end in zip(edges, [*edges[1:], edges[0]], strict=True)]


def _utc(clock: time) -> time:
    if clock.tzinfo is None:
        return clock
    return datetime.combine(ALWAYS.date(), clock).astimezone(UTC).time()


def _rates(model: ModelInfo, day: datetime, window: DailyWindow | None) -> Iterable[Rate]:
    """The catalogue's prices from this day on in the window: the standard ones, then those that tiers change."""
    moment = datetime.combine(day.date(), window.start, UTC) if window else day
    standard = dict(_prices(model.get_prices(moment)))
    yield from _rates_of(standard, None, window)
    tiers = {tier for variant in model.price_variants or () if (tier := _tier_of(variant))}
    for tier in sorted(tiers):
        in_tier = dict(_prices(model.get_prices(moment, dict.fromkeys(_TIER_CONDITIONS, tier))))
        different = {key: price for key, price in in_tier.items() if standard.get(key) != price}
        yield from _rates_of(different, tier, window)


def _prices(prices: ModelPrice) -> list[tuple[str, Decimal | TieredPrices]]:
    return [(key, value) for key, value in vars(prices).items() if value is not None and not key.startswith("_")]


def _prices_usage(prices: ModelPrice) -> bool:
    return any(rate.kind is not UsageKind.REQUEST for rate in _standard_rates(prices))


def _standard_rates(prices: ModelPrice) -> list[Rate]:
    return list(_rates_of(dict(_prices(prices)), None, None))


def _rates_of(
    prices: dict[str, Decimal | TieredPrices], service_tier: str | None, window: DailyWindow | None
) -> Iterable[Rate]:
    for key, price in prices.items():
        kind = _KIND_OF_PRICE.get(key)
        if kind is None:
            continue
        steps = [(0, price)] if isinstance(price, Decimal) else [(0, price.base)]
        if isinstance(price, TieredPrices):
            steps += [(tier.start, tier.price) for tier in price.tiers]
        for above, usd in steps:
            yield priced(
                kind=kind,
                usd=usd * 1000 if key.endswith(_PER_THOUSAND) else usd,
                above_input_tokens=above,
                service_tier=service_tier,
                daily=window,
            )


def _clause(clause: Any) -> NameClause:
    for operator in _CLAUSE_OPERATORS:
        if hasattr(clause, operator):
            return {operator: getattr(clause, operator)}
    if hasattr(clause, "or_"):
        return {"or": [_clause(inner) for inner in clause.or_]}
    if hasattr(clause, "and_"):
        return {"and": [_clause(inner) for inner in clause.and_]}
    raise UnknownClauseError(f"genai-prices has an unknown kind of name clause: {type(clause).__name__}")
