"""What the demo's streams must cost, worked out apart from the product: published prices and whole fractions."""

from dataclasses import dataclass
from fractions import Fraction

# USD per million tokens: input, cached input, output. From the providers' price lists of November 2026.
PRICES = {
    "claude-opus-4.7": (Fraction(5), Fraction(1, 2), Fraction(25)),
    "gpt-5.5-pro": (Fraction(30), Fraction(30), Fraction(180)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a stream used; `cached` is a part of `input`."""

    input: int
    output: int
    cached: int = 0


def cents(*, model: str, tokens: Tokens) -> Fraction:
    """The price of the tokens in cents, exactly."""
    uncached_price, cached_price, output_price = PRICES[model]
    millionths = (
        (tokens.input - tokens.cached) * uncached_price
        + tokens.cached * cached_price
        + tokens.output * output_price
    )
    return millionths * 100 / 1_000_000
