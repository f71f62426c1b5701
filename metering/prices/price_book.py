"""The price book: all that turns usage into money. Rate cards, cancel policies and markups, each dated."""

from dataclasses import dataclass, field

from metering.prices.cancel_policies import CancelPolicyBook
from metering.prices.markups import MarkupBook
from metering.prices.rate_book import RateBook


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """What is in force when, for every model, provider and customer."""

    rates: RateBook
    cancel_policies: CancelPolicyBook = field(default_factory=lambda: CancelPolicyBook(()))
    markups: MarkupBook = field(default_factory=lambda: MarkupBook(()))
