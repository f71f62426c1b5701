"""The exact cost of every stream of a run, from its story and prices typed in by hand.

Shares no code with rating, settlement or the join: it knows the contract's text and the stories.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from metering.lab.chaos.traffic import Life, Story, tell

# A stream that the prober posts: this many input and output tokens of the model `small`.
PROBE_INPUT, PROBE_OUTPUT = 1_000, 17

# What the upstream of the reference gateway says that it is.
CHAT_MODEL = "gpt-4o-2024-11-20"

# USD per million tokens: input, cached input, output; and the same above so many input tokens.
PRICES: Mapping[str, tuple[str, str, str]] = {
    "small": ("0.3", "0.03", "2.5"),
    "large": ("5", "0.5", "25"),
    "tiered": ("1.25", "0.125", "10"),
    "raised": ("2", "0.2", "8"),
    CHAT_MODEL: ("5", "0.5", "25"),
}
# Once all traffic is over, `raised` gets these prices from the beginning on, and its streams are rerated.
RAISED = ("3", "0.3", "12")
TIER_ABOVE = 6_000
TIERED = ("2.5", "0.25", "15")
# The order of the prices above, as kinds of the price list.
KINDS = ("input", "cache_read", "output")

Key = tuple[str, str]


def cost(story: Story, *, cut_after: int | None = None) -> Fraction:
    """The final cost of a stream in US cents; of one that was cut, after so many of its counts."""
    if cut_after is not None:
        return tokens_cost(story.model, story.input, story.delivered[cut_after - 1])
    if story.life is Life.FAILED:
        return Fraction(0)  # it delivered nothing, and its upstream reported no usage
    if story.life in (Life.CANCELLED, Life.ABANDONED):
        # No usage was reported: the start's input and the highest count.
        return tokens_cost(story.model, story.input, story.delivered[-1])
    return _cents(story.model, story.input, story.cached, story.output)


def tokens_cost(model: str, given: int, output: int) -> Fraction:
    """What tokens cost in US cents in the end, with nothing cached."""
    return _cents(model, given, 0, output)


def hold_price(model: str, given: int, output: int) -> Fraction:
    """What a hold for so many tokens sets aside: by the prices while there is traffic."""
    return _sum(_prices(model, given), (given, 0, output))


def probe_cost() -> Fraction:
    """The cost of one of the prober's streams in US cents."""
    return tokens_cost("small", PROBE_INPUT, PROBE_OUTPUT)


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
    prices = RAISED if model == "raised" else _prices(model, given)
    return _sum(prices, (given - cached, cached, output))


def _prices(model: str, given: int) -> tuple[str, str, str]:
    return TIERED if model == "tiered" and given > TIER_ABOVE else PRICES[model]


def _sum(prices: tuple[str, str, str], quantities: tuple[int, int, int]) -> Fraction:
    return (
        sum((count * Fraction(usd) for count, usd in zip(quantities, prices, strict=True)), Fraction(0)) / 10_000
    )
