"""The price book: rate cards, cancel policies, markups of customers and accepted costs of upstreams, all dated."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from metering.core.dates import histories, in_force
from metering.core.money import ZERO
from metering.prices.cancel_policies import CancelPolicyBook
from metering.prices.rate_book import RateBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """A customer's markup from `effective_from` on; never changed. `percent` is negative for a discount."""

    customer_id: str
    percent: Decimal
    effective_from: datetime


class MarkupBook:
    """All markups; finds the markup in force."""

    __slots__ = ("_histories",)

    def __init__(self, markups: Iterable[Markup]) -> None:
        self._histories = histories(markups, key=lambda markup: markup.customer_id)

    def find(self, *, customer_id: str, at: datetime) -> Decimal:
        """The percentage in force at `at`; 0 without a markup."""
        markup = in_force(self._histories.get(customer_id, ()), at)
        return markup.percent if markup is not None else ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamPrice:
    """Whether what a provider says that a stream cost is the price where no rate is, from `effective_from` on."""

    provider: str
    accepted: bool
    effective_from: datetime


class UpstreamPriceBook:
    """Whether the costs that a provider states are accepted; without a row, they are not."""

    __slots__ = ("_histories",)

    def __init__(self, prices: Iterable[UpstreamPrice]) -> None:
        self._histories = histories(prices, key=lambda each: each.provider)

    def accepted(self, *, provider: str, at: datetime) -> bool:
        """Whether the provider's costs are accepted for a stream that starts at `at`."""
        found = in_force(self._histories.get(provider.lower(), ()), at)
        return found is not None and found.accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """All dated prices and terms, for every model, provider and customer."""

    rates: RateBook
    cancel_policies: CancelPolicyBook = field(default_factory=lambda: CancelPolicyBook(()))
    markups: MarkupBook = field(default_factory=lambda: MarkupBook(()))
    upstream_prices: UpstreamPriceBook = field(default_factory=lambda: UpstreamPriceBook(()))
