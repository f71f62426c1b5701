"""Rate cards: what a model's tokens cost, since when, and which names mean that model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from metering.domain.usage import UsageKind

# A name clause as the genai-prices catalogue writes it: {"equals": "x"}, {"starts_with": "x"}, {"regex": "x"},
# {"or": [clause, ...]} and so on. Kept as data, so that it can be stored with the card.
NameClause = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """USD per million units of a kind, for requests with more than `above_input_tokens` input tokens."""

    kind: UsageKind
    usd_per_million: Decimal
    above_input_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """The rates of one model from `effective_from` until its next card takes over; never changed."""

    rate_card_id: str
    provider: str
    model: str
    effective_from: datetime
    rates: tuple[Rate, ...]
    names: NameClause
    position: int | None = None

    def rates_for(self, *, input_tokens: int) -> dict[UsageKind, Rate]:
        """The rate of each kind that has one, for a request of this size; a tier prices the whole request."""
        highest: dict[UsageKind, Rate] = {}
        for rate in self.rates:
            if rate.above_input_tokens and input_tokens <= rate.above_input_tokens:
                continue
            known = highest.get(rate.kind)
            if known is None or rate.above_input_tokens > known.above_input_tokens:
                highest[rate.kind] = rate
        return highest


def matches_name(clause: NameClause, name: str) -> bool:
    """Whether a model name, in lower case, satisfies a name clause. Clauses compare without case.

    Raises:
        ValueError: for a clause of an unknown kind.
    """
    ((operator, operand),) = clause.items()
    match operator, operand:
        case "equals", str(text):
            return name == text.lower()
        case "starts_with", str(text):
            return name.startswith(text.lower())
        case "ends_with", str(text):
            return name.endswith(text.lower())
        case "contains", str(text):
            return text.lower() in name
        case "regex", str(text):
            return re.search(text, name) is not None
        case "or", [*clauses]:
            return any(matches_name(inner, name) for inner in clauses)
        case "and", [*clauses]:
            return all(matches_name(inner, name) for inner in clauses)
    raise ValueError(f"unknown name clause {operator!r}")


class RateBook:
    """All rate cards, by provider: finds the card in force for a model name at a time.

    A card set by hand (no position) is looked at before the catalogue's, which keep the catalogue's order:
    there, the first model whose names match wins.
    """

    __slots__ = ("_by_id", "_cards", "_models", "model_named")

    def __init__(self, cards: Iterable[RateCard]) -> None:
        self._by_id = {card.rate_card_id: card for card in cards}
        self._cards: dict[tuple[str, str], list[RateCard]] = {}
        for card in sorted(self._by_id.values(), key=lambda card: card.effective_from):
            self._cards.setdefault((card.provider, card.model), []).append(card)
        self._models: dict[str, list[RateCard]] = {}
        for newest in (history[-1] for history in self._cards.values()):
            self._models.setdefault(newest.provider, []).append(newest)
        for newest_cards in self._models.values():
            newest_cards.sort(key=lambda card: (card.position is not None, card.position or 0, card.model))
        self.model_named = lru_cache(maxsize=20_000)(self._model_named)

    def card(self, rate_card_id: str) -> RateCard | None:
        """The card with this id."""
        return self._by_id.get(rate_card_id)

    def find(self, *, provider: str, model: str, at: datetime) -> RateCard | None:
        """The card in force at `at` for a model as a customer writes it, or None when there is no such rate."""
        known = self.model_named(provider.lower(), model.lower())
        if known is None:
            return None
        in_force = [card for card in self._cards[known] if card.effective_from <= at]
        return in_force[-1] if in_force else None

    def _model_named(self, provider: str, name: str) -> tuple[str, str] | None:
        for candidate in _spellings(provider, name):
            for card in self._models.get(provider, ()):
                if matches_name(card.names, candidate):
                    return (card.provider, card.model)
        return None


def _spellings(provider: str, name: str) -> Sequence[str]:
    # Gateways often write "anthropic/claude-opus-4.7" where the provider itself says "claude-opus-4.7".
    prefix = f"{provider}/"
    return (name, name.removeprefix(prefix)) if name.startswith(prefix) else (name,)
