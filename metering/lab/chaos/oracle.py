"""The exact cost of every stream of a run, from its story and prices typed in by hand.

Shares no code with rating, settlement or the join: it knows the contract's text and the stories.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from metering.lab.chaos.traffic import Life, Story, tell

# A stream that the prober posts: this many input and output tokens of the model `small`.
PROBE_INPUT, PROBE_OUTPUT = 1_000, 17

# USD per million tokens: input, cached input, output; and the same above so many input tokens.
PRICES: Mapping[str, tuple[str, str, str]] = {
    "small": ("0.3", "0.03", "2.5"),
    "large": ("5", "0.5", "25"),
    "tiered": ("1.25", "0.125", "10"),
}
TIER_ABOVE = 6_000
TIERED = ("2.5", "0.25", "15")
# The order of the prices above, as kinds of the price list.
KINDS = ("input", "cache_read", "output")

Key = tuple[str, str]


def cost(story: Story) -> Fraction:
    """The final cost of a stream in US cents."""
    if story.life is Life.FAILED:
        return Fraction(0)  # it delivered nothing, and its upstream reported no usage
    if story.life in (Life.CANCELLED, Life.ABANDONED):
        # No usage was reported: the start's input and the highest count.
        return _cents(story.model, story.input, 0, story.delivered[-1])
    return _cents(story.model, story.input, story.cached, story.output)


def probe_cost() -> Fraction:
    """The cost of one of the prober's streams in US cents."""
    return _cents("small", PROBE_INPUT, 0, PROBE_OUTPUT)


def costs(*, seed: int, streams: Mapping[int, int], customers: int) -> dict[Key, Fraction]:
    """The cost of every stream; `streams` has the number of streams by gateway."""
    stories = (
        tell(seed=seed, gateway=gateway, number=number, customers=customers)
        for gateway, count in streams.items()
        for number in range(count)
    )
    return {(story.customer_id, story.stream_id): cost(story) for story in stories}


def by_customer(all_costs: Iterable[tuple[Key, Fraction]]) -> dict[str, Fraction]:
    """The sums by customer."""
    sums: dict[str, Fraction] = {}
    for (customer_id, _), cents in all_costs:
        sums[customer_id] = sums.get(customer_id, Fraction(0)) + cents
    return sums


def _cents(model: str, given: int, cached: int, output: int) -> Fraction:
    prices = TIERED if model == "tiered" and given > TIER_ABOVE else PRICES[model]
    quantities = (given - cached, cached, output)
    return (
        sum((count * Fraction(usd) for count, usd in zip(quantities, prices, strict=True)), Fraction(0)) / 10_000
    )
