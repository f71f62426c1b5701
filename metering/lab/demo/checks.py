"""Checks the demo's streams and totals against what the upstream sent, at published prices, in exact fractions.

Shares no code with the product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from metering.lab.demo.scenes import Expected, Scene, Seen

# USD per million tokens: input, cached input, output. From the providers' price lists of November 2026.
PRICES = {
    "claude-opus-4.7": (Fraction(5), Fraction(1, 2), Fraction(25)),
    "gpt-5.5-pro": (Fraction(30), Fraction(30), Fraction(180)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The tokens of a stream; `input` includes `cached`."""

    input: int
    output: int
    cached: int = 0


def cents(*, model: str, tokens: Tokens) -> Fraction:
    """The exact price of the tokens in US cents."""
    uncached_price, cached_price, output_price = PRICES[model]
    millionths = (
        (tokens.input - tokens.cached) * uncached_price
        + tokens.cached * cached_price
        + tokens.output * output_price
    )
    return millionths * 100 / 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A finished scene: what the client saw, and what the upstream recorded for each stream."""

    scene: Scene
    seen: Seen
    sent: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stream of the report. `wrong` lists its wrong figures; `expected_cents` is None without a price."""

    scene: str
    title: str
    stream: dict[str, Any]
    expected_cents: Fraction | None
    wrong: tuple[str, ...]


def check_stream(*, played: Played, place: int, stream: dict[str, Any]) -> Row:
    """Compare a stream, as the API shows it, with the scene's expected stream at `place`."""
    expected = played.scene.expected[place]
    wrong = [
        f"{name} is {stream[name]!r}, not {value!r}"
        for name, value in (("state", expected.state), ("outcome", expected.outcome))
        if stream[name] != value
    ]
    cost: Fraction | None = None
    if expected.state != "finalized":
        if stream["cost_usd_cents"] is not None:
            wrong.append("it has a cost although it has no rate")
    else:
        tokens = _billed_tokens(played, place, expected, stream, wrong)
        cost = cents(model=played.scene.model, tokens=tokens)
        if stream["cost_usd_cents"] is None or Fraction(stream["cost_usd_cents"]) != cost:
            wrong.append(f"cost_usd_cents is {stream['cost_usd_cents']}, not {float(cost)}")
        lines = (stream["charge"] or {}).get("lines", [])
        if sum(Fraction(line["usd_cents"]) for line in lines) != cost:
            wrong.append("the lines of the charge do not add up to its cost")
    return Row(
        scene=played.scene.name,
        title=played.scene.title,
        stream=stream,
        expected_cents=cost,
        wrong=tuple(wrong),
    )


def _billed_tokens(
    played: Played, place: int, expected: Expected, stream: dict[str, Any], wrong: list[str]
) -> Tokens:
    """The tokens that must be billed; adds to `wrong` where the stream has others."""
    if not expected.billed:
        return Tokens(input=0, output=0)
    sent, usage = played.sent[place], stream["usage"]
    if stream["usage_source"] != expected.source:
        wrong.append(f"usage_source is {stream['usage_source']}, not {expected.source}")
    if usage.get("input_tokens") != sent["prompt_tokens"]:
        wrong.append(f"input_tokens is {usage.get('input_tokens')}, the upstream read {sent['prompt_tokens']}")
    output = usage.get("output_tokens") or 0
    at_least = sent["tokens_sent"] if expected.exact else played.seen.pieces
    if not at_least <= output <= sent["tokens_sent"]:
        wrong.append(f"output_tokens is {output}, not from {at_least} to {sent['tokens_sent']}")
    return Tokens(input=sent["prompt_tokens"], output=output, cached=played.scene.cached)


def check_total(*, rows: Sequence[Row], total: dict[str, Any]) -> tuple[str, ...]:
    """The figures of the totals that are not exactly the sums of the streams."""
    costs = [row.expected_cents for row in rows if row.expected_cents is not None]
    wrong: list[str] = []
    if Fraction(total["cost_usd_cents"]) != sum(costs):
        wrong.append(f"the total is {total['cost_usd_cents']}, the streams add up to {float(sum(costs))}")
    if total["stream_count"] != len(costs):
        wrong.append(f"the total counts {total['stream_count']} streams, {len(costs)} are final")
    if total["accrued_usd_cents"] != "0":
        wrong.append(f"{total['accrued_usd_cents']} cents are still accrued")
    return tuple(wrong)
