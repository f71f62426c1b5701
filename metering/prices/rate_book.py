"""The rate book: finds the card in force for a model name as gateways write it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from metering.core.dates import histories, in_force
from metering.prices.model_names import NameClause, matching_rule, spellings
from metering.prices.rates import RateCard

# LiteLLM reports itself as provider if it does not name one; then the prefix of the model does.
_LITELLM = "litellm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider of the catalogue: its other names, and the providers whose models it serves under their names."""

    provider: str
    names: NameClause | None = None
    serves_models_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CardMatch:
    """A card in force, and how the model's name matched: `openai/gpt-5-mini-2025 starts_with gpt-5-mini`."""

    card: RateCard
    rule: str

    @property
    def effective_from(self) -> datetime:
        """When the card takes effect."""
        return self.card.effective_from


_Candidates = Callable[[str, str], Iterator[tuple[str, str]]]


class RateBook:
    """All rate cards: shared ones, and customers' own.

    Cards that were set manually (without a position) are tried before those of the catalogue, which keep its
    order. The first model whose names match wins.
    """

    __slots__ = ("_by_id", "_of_customer", "_provider_named", "_providers", "_shared")

    def __init__(self, cards: Iterable[RateCard], providers: Iterable[Provider] = ()) -> None:
        self._by_id = {card.rate_card_id: card for card in cards}
        self._providers = {provider.provider: provider for provider in providers}
        self._provider_named = lru_cache(maxsize=1_000)(self._find_provider)
        owned: dict[str | None, list[RateCard]] = {}
        for card in self._by_id.values():
            owned.setdefault(card.customer_id, []).append(card)
        self._shared = _CardsOfOwner(owned.pop(None, []), self._candidates)
        self._of_customer = {owner: _CardsOfOwner(cards, self._candidates) for owner, cards in owned.items()}

    def card(self, rate_card_id: str) -> RateCard | None:
        """The card with this id; None if there is none."""
        return self._by_id.get(rate_card_id)

    def find(self, *, provider: str, model: str, at: datetime, customer_id: str | None = None) -> CardMatch | None:
        """The card in force at `at` for a model as a gateway writes it; None if there is none."""
        if self._of_customer and customer_id in self._of_customer:
            own = self._of_customer[customer_id].find(provider, model, at)
            if own is not None and own.card.rates:
                return own
        return self._shared.find(provider, model, at)

    def _candidates(self, provider: str, model: str) -> Iterator[tuple[str, str]]:
        """(provider, model) pairs to look up, most likely first, in lower case."""
        known, name = self._provider_named(provider), model
        prefix, slash, rest = model.partition("/")
        if known == _LITELLM and slash:
            known, name = self._provider_named(prefix), rest
        sellers = dict.fromkeys((provider, known))
        names = [name]
        # Gateways often write "anthropic/claude-opus-4.7" where the provider itself says "claude-opus-4.7".
        if slash and name is model and self._provider_named(prefix) == known:
            names.append(rest)
        if known in self._providers:
            sellers |= dict.fromkeys(self._providers[known].serves_models_of)
        for written in names:
            for spelling in spellings(written):
                for seller in sellers:
                    yield seller, spelling

    def _find_provider(self, name: str) -> str:
        if name in self._providers:
            return name
        for provider in self._providers.values():
            if provider.names is not None and matching_rule(provider.names, name):
                return provider.provider
        return name


class _CardsOfOwner:
    """The shared cards, or those of one customer."""

    __slots__ = ("_candidates", "_histories", "_models", "_named")

    def __init__(self, cards: Iterable[RateCard], candidates: _Candidates) -> None:
        self._candidates = candidates
        self._histories = histories(cards, key=lambda card: (card.provider, card.model))
        self._models: dict[str, list[RateCard]] = {}
        for newest in (history[-1] for history in self._histories.values()):
            self._models.setdefault(newest.provider, []).append(newest)
        for newest_cards in self._models.values():
            newest_cards.sort(key=lambda card: (card.position is not None, card.position or 0, card.model))
        self._named = lru_cache(maxsize=20_000)(self._find_model)

    def find(self, provider: str, model: str, at: datetime) -> CardMatch | None:
        return in_force(self._named(provider.lower(), model.lower()), at)

    def _find_model(self, provider: str, model: str) -> Sequence[CardMatch]:
        """The cards of the model that these names match, oldest first; empty if none matches."""
        for seller, spelling in self._candidates(provider, model):
            for newest in self._models.get(seller, ()):
                if rule := matching_rule(newest.names, spelling):
                    history = self._histories[newest.provider, newest.model]
                    return [CardMatch(card, f"{seller}/{spelling} {rule}") for card in history]
        return ()
