"""What a stream may cost, before it starts: by the same price book that will bill it."""

from datetime import datetime
from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation

from msgspec import Struct

from metering.budgets.holds import HoldMode, HoldRequest
from metering.core.errors import MeteringError
from metering.core.money import EXACT, ZERO, cents_of, sum_cents, with_percent
from metering.events.usage import Usage, UsageKind
from metering.prices.price_book import PriceBook
from metering.prices.rating import RateMissingError, rate_usage, rates_of_card
from metering.prices.service_tiers import service_tier_of

_FLOOR = Context(prec=60, rounding=ROUND_FLOOR, traps=[InvalidOperation])
# Counters have 53 bits.
_MOST_TOKENS = 9_007_199_254_740_991


class PriceUnknownError(MeteringError):
    """The stream has no price before it starts, and a budget of the stream does not take streams without one.

    `has_rate`: the model has a price, but how much input there is, is known only afterwards.
    """

    def __init__(self, message: str, *, has_rate: bool = False) -> None:
        super().__init__(message)
        self.has_rate = has_rate


class OutputUnknownError(MeteringError):
    """A hold for the worst case needs to know the most that the stream can deliver."""

    def __init__(self) -> None:
        super().__init__(
            "max_output_tokens: required for mode worst_case, because the model's output has a price; "
            "without it, ask for mode sliding"
        )


class HoldPrice(Struct, frozen=True, gc=False):
    """The price of a stream's input, and of each token of its output, in exact cents."""

    input_usd_cents: Decimal
    output_token_usd_cents: Decimal

    def amount(self, output_tokens: int) -> Decimal:
        """What the input and this much output cost."""
        return EXACT.add(self.input_usd_cents, EXACT.multiply(self.output_token_usd_cents, Decimal(output_tokens)))

    def output_tokens_within(self, usd_cents: Decimal) -> int:
        """The most output that, with the input, costs no more than this; 0 where not even the input fits."""
        left = EXACT.subtract(usd_cents, self.input_usd_cents)
        if left < 0:
            return 0
        if not self.output_token_usd_cents:
            return _MOST_TOKENS
        tokens = _FLOOR.divide(left, self.output_token_usd_cents).to_integral_value(ROUND_FLOOR)
        return min(int(tokens), _MOST_TOKENS)


def price_hold(request: HoldRequest, *, prices: PriceBook, at: datetime) -> HoldPrice:
    """The price of a stream that starts at `at`, with the customer's own rates and markup.

    Raises:
        PriceUnknownError: the model, its input or its output has no rate, or the request has no `input_tokens`.
        OutputUnknownError: the request does not say how much output there can be, and it has a price.
    """
    match = prices.rates.find(
        customer_id=request.customer_id, provider=request.provider, model=request.model, at=at
    )
    if match is None:
        why = prices.rates.explain(provider=request.provider, model=request.model, at=at)
        raise PriceUnknownError(f"no rate for {request.provider}/{request.model}: {why}")
    if request.input_tokens is None:
        raise PriceUnknownError(
            f"input_tokens: what {request.provider}/{request.model} costs is not known before the stream, and a"
            " budget does not take such streams; give the budget an unknown_price",
            has_rate=True,
        )
    card = match.card
    percent = ZERO
    if card.customer_id is None:
        percent = prices.markups.find(customer_id=request.customer_id, at=at)
    usage = Usage(input_tokens=request.input_tokens)
    tier = service_tier_of(usage=None, answer=None, request=request.service_tier)
    rates = rates_of_card(usage=usage, card=card, service_tier=tier, at=at)
    try:
        rated = rate_usage(usage=usage, rates=rates, elsewhere=card.kinds, markup_percent=percent)
    except RateMissingError as error:
        raise PriceUnknownError(f"rate card {card.rate_card_id} has {error}") from error
    output = rates.get(UsageKind.OUTPUT)
    if output is None:
        if request.max_output_tokens:
            raise PriceUnknownError(f"rate card {card.rate_card_id} has no rate for output tokens")
        per_token = ZERO
    else:
        if request.max_output_tokens is None and request.mode is HoldMode.WORST_CASE:
            raise OutputUnknownError
        per_token = cents_of(quantity=1, usd_per_million=with_percent(output.usd, percent=percent))
    return HoldPrice(sum_cents(line.usd_cents for line in rated.lines), per_token)
