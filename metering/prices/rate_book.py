"""The rate book: finds the card in force for a model name as gateways write it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from metering.core.dates import histories, in_force
from metering.prices.model_names import Matcher, NameClause, matcher, matching_rule, names_in, spellings
from metering.prices.nearest import Names
from metering.prices.rates import RateCard
from metering.prices.readings import Reading, priced_by_itself, readings, unpriced_kind

# LiteLLM reports itself as provider if it does not name one; then the prefix of the model does.
_LITELLM = "litellm"
# Names of providers that gateways use (LiteLLM, OpenTelemetry) and the catalogue does not know.
_OTHER_NAMES = {
    "azure-ai": "azure",
    "azure.ai.inference": "azure",
    "azure_ai": "azure",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
    "z-ai": "zai",
    "z_ai": "zai",
}


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


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A provider and a name to look up, and why. If `exact`, only a name that is equal counts as a match.

    If `by_hand`, only a card that a person set counts.
    """

    seller: str
    name: str
    because: str = ""
    exact: bool = False
    by_hand: bool = False


_Candidates = Callable[[str, str], Iterator[_Candidate]]


class RateBook:
    """All rate cards: shared ones, and customers' own.

    Cards that were set manually (without a position) are tried before those of the catalogue, which keep its
    order. The first model whose names match wins.
    """

    __slots__ = ("_by_id", "_explained", "_names", "_of_customer", "_provider_named", "_providers", "_shared")

    def __init__(self, cards: Iterable[RateCard], providers: Iterable[Provider] = ()) -> None:
        self._by_id = {card.rate_card_id: card for card in cards}
        self._providers = {provider.provider: provider for provider in providers}
        self._provider_named = lru_cache(maxsize=1_000)(self._find_provider)
        self._explained = lru_cache(maxsize=1_000)(self._explain)
        self._names = lru_cache(maxsize=100)(self._names_of)
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

    def history(self, *, provider: str, model: str) -> Sequence[RateCard]:
        """All shared cards of a model as a gateway writes it, the oldest first."""
        return self._shared.history(provider, model)

    def explain(self, *, provider: str, model: str, at: datetime) -> str:
        """Why no card is found for a model, and which model has a similar name; for a person who sets a rate."""
        key = (provider.strip().lower(), model.strip().lower())
        later = self._shared.first_from(*key)
        if later is not None and at < later:
            return f"its first rate is in force from {later.isoformat()}"
        return self._explained(*key)

    def _explain(self, provider: str, model: str) -> str:
        known, name = self._of_litellm(provider, model)
        if known == _LITELLM:
            return "write the model with its provider, such as openai/gpt-4o"
        kind, alike = unpriced_kind(name, provider=known)
        names = self._names(known)
        if not names:
            return f"provider {provider} has no rates"
        reason = kind or "no rate card has this name"
        if nearest := names.nearest(alike):
            reason += f"; the nearest is {nearest}"
        return f"{reason}; set its rate with `metering rates set`" if kind else reason

    def _names_of(self, known: str) -> Names:
        return Names(self._shared.names_of(dict.fromkeys((known, *self._serves(known)))))

    def _of_litellm(self, provider: str, model: str) -> tuple[str, str]:
        """The provider that is known by this name, and the model's name without LiteLLM's prefix."""
        known = self._provider_named(provider)
        prefix, slash, rest = model.partition("/")
        return (self._provider_named(prefix), rest) if known == _LITELLM and slash else (known, model)

    def _serves(self, known: str) -> Sequence[str]:
        return self._providers[known].serves_models_of if known in self._providers else ()

    def _candidates(self, provider: str, model: str) -> Iterator[_Candidate]:
        """What to look up, most likely first, in lower case: the name as written, then other readings of it."""
        known, name = self._of_litellm(provider, model)
        prefix, slash, rest = model.partition("/")
        sellers = dict.fromkeys((provider, known))
        names = [name]
        # Gateways often write "anthropic/claude-opus-4.7" where the provider itself says "claude-opus-4.7".
        if slash and name is model and self._provider_named(prefix) == known:
            names.append(rest)
        sellers |= dict.fromkeys(self._serves(known))
        by_hand = priced_by_itself(name, provider=known) is not None
        as_written = [Reading(written, "") for written in names]
        others = [] if by_hand else [each for written in names for each in readings(written, provider=known)]
        if any(not each.moving for each in others):
            # What is left of a name may be a model by itself, which a broader clause would mistake for another.
            exactly = [replace(each, exact=True) for each in (*as_written, *others) if not each.moving]
            as_written = [*exactly, *as_written]
        for reading in (*as_written, *others):
            for spelling in spellings(reading.name):
                for seller in sellers:
                    yield _Candidate(seller, spelling, reading.because, reading.exact, by_hand)

    def _find_provider(self, name: str) -> str:
        if name in self._providers:
            return name
        for provider in self._providers.values():
            if provider.names is not None and matching_rule(provider.names, name):
                return provider.provider
        return _OTHER_NAMES.get(name, name)


class _CardsOfOwner:
    """The shared cards, or those of one customer."""

    __slots__ = ("_candidates", "_histories", "_matchers", "_models", "_named")

    def __init__(self, cards: Iterable[RateCard], candidates: _Candidates) -> None:
        self._candidates = candidates
        self._histories = histories(cards, key=lambda card: (card.provider, card.model))
        self._models: dict[str, list[RateCard]] = {}
        for newest in (history[-1] for history in self._histories.values()):
            self._models.setdefault(newest.provider, []).append(newest)
        for newest_cards in self._models.values():
            newest_cards.sort(key=lambda card: (card.position is not None, card.position or 0, card.model))
        self._matchers: dict[str, list[tuple[RateCard, Matcher]]] = {}
        self._named = lru_cache(maxsize=20_000)(self._find_model)

    def find(self, provider: str, model: str, at: datetime) -> CardMatch | None:
        return in_force(self._named(provider.lower(), model.lower()), at)

    def history(self, provider: str, model: str) -> Sequence[RateCard]:
        return [match.card for match in self._named(provider.lower(), model.lower())]

    def first_from(self, provider: str, model: str) -> datetime | None:
        """When the first card of the model takes effect; None without a card."""
        return next((match.card.effective_from for match in self._named(provider, model)), None)

    def names_of(self, sellers: Iterable[str]) -> dict[str, str]:
        """The models of these providers as `provider/model`, by each name of them in lower case."""
        return {
            name.lower(): f"{seller}/{card.model}"
            for seller in sellers
            for card in self._models.get(seller, ())
            for name in (*names_in(card.names), card.model)
        }

    def _find_model(self, provider: str, model: str) -> Sequence[CardMatch]:
        """The cards of the model that these names match, oldest first; empty if none matches."""
        for candidate in self._candidates(provider.strip(), model.strip()):
            for newest, rule_of in self._matchers_of(candidate.seller):
                if candidate.by_hand and newest.position is not None:
                    continue
                rule = rule_of(candidate.name)
                if rule and not (candidate.exact and rule != f"equals {candidate.name}"):
                    history = self._histories[newest.provider, newest.model]
                    said = rule_text(candidate.name, rule, candidate.because)
                    return [CardMatch(card, f"{candidate.seller}/{said}") for card in history]
        return ()

    def _matchers_of(self, seller: str) -> Sequence[tuple[RateCard, Matcher]]:
        """The models of a provider and what matches their names. Made when needed first: most never are."""
        if seller not in self._models:
            return ()
        if seller not in self._matchers:
            self._matchers[seller] = [(card, matcher(card.names)) for card in self._models[seller]]
        return self._matchers[seller]


def rule_text(name: str, rule: str, because: str = "") -> str:
    """How a name matched, as a charge stores it after the provider: `gpt-4o equals gpt-4o (without …)`."""
    return f"{name} {rule}" + (f" ({because})" if because else "")
