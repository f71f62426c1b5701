"""Published prices of the models that the scenarios use, in USD per million tokens, typed in by hand.

A test compares them with the package `genai_prices`; nothing here comes from the product.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Hours:
    """From this hour of these days in UTC on, for so many hours; 0 is Monday."""

    days: tuple[int, ...]
    begin: int
    length: int

    def include(self, at: datetime) -> bool:
        """Whether they began today or yesterday, and are not over."""
        today = at.replace(hour=0, minute=0, second=0, microsecond=0)
        begun = [day + timedelta(hours=self.begin) for day in (today, today - timedelta(days=1))]
        ends = timedelta(hours=self.length)
        return any(since.weekday() in self.days and since <= at < since + ends for since in begun)


@dataclass(frozen=True, slots=True)
class Price:
    """A price, and the one that replaces it for all tokens when the input is larger than `above` tokens.

    With `hours`, `inside` replaces both for streams that start in these.
    """

    base: Fraction
    above: int | None = None
    then: Fraction = Fraction(0)
    hours: Hours | None = None
    inside: Fraction = Fraction(0)

    def when(self, at: datetime) -> "Price":
        """The price for a stream that starts then."""
        inside = self.hours is not None and self.hours.include(at)
        return Price(self.inside) if inside else Price(self.base, self.above, self.then)

    def at(self, input_size: int) -> Fraction:
        """USD per million for a prompt of this size."""
        return self.then if self.above is not None and input_size > self.above else self.base


@dataclass(frozen=True, slots=True)
class Model:
    """A model and what its kinds of tokens cost. `package_id` is its name in `genai_prices`."""

    provider: str
    name: str
    prices: dict[str, Price] = field(hash=False)
    package_id: str = ""


def _model(provider: str, name: str, *, above: int | None = None, package_id: str = "", **prices: str) -> Model:
    """A model from prices such as `input="5"`, or `input="5 10"` where a tier begins."""
    table = {}
    for kind, text in prices.items():
        base, _, then = text.partition(" ")
        table[kind] = Price(Fraction(base), above if then else None, Fraction(then or 0))
    return Model(provider, name, table, package_id or name)


MODELS = (
    _model(
        "anthropic",
        "claude-opus-4.7",
        input="5",
        output="25",
        cache_read="0.5",
        cache_write="6.25",
        package_id="claude-opus-4-7",
    ),
    _model(
        "anthropic",
        "claude-sonnet-4-5",
        above=200_000,
        input="3 6",
        output="15 22.5",
        cache_read="0.3 0.6",
        cache_write="3.75 7.5",
    ),
    _model("openai", "gpt-5.5-pro", above=272_000, input="30 60", output="180 270"),
    _model("openai", "gpt-5.5", above=272_000, input="5 10", output="30 45", cache_read="0.5 1"),
    _model("openai", "gpt-audio", input="2.5", output="10", input_audio="32", output_audio="64"),
    _model("openai", "o3-mini", input="1.1", output="4.4", cache_read="0.55"),
    _model(
        "google",
        "gemini-2.5-flash",
        input="0.3",
        output="2.5",
        cache_read="0.03",
        input_audio="1",
        cache_read_audio="0.1",
    ),
    _model(
        "google",
        "gemini-1.5-flash",
        above=128_000,
        input="0.075 0.15",
        output="0.3 0.6",
        cache_read="0.01875 0.0375",
    ),
    _model("deepseek", "deepseek-v3.1-terminus", input="0.27", output="0.95", cache_read="0.13"),
    _model("deepseek", "deepseek-v3.2", input="0.2288", output="0.3432"),
    _model("x-ai", "grok-3-mini", input="0.3", output="0.5", cache_read="0.075"),
)
PRICES = {(model.provider, model.name): model.prices for model in MODELS}
