"""Holds what was booked against what was sent: every figure is worked out again, and none may be off."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from metering.lab.demo.arithmetic import Tokens, cents
from metering.lab.demo.scenes import Expected, Scene, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A scene that is over: what the program saw, and what the upstream says it sent, one record a stream."""

    scene: Scene
    seen: Seen
    sent: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stream in the report. `wrong` says what is off; empty when nothing is."""

    scene: str
    title: str
    stream: dict[str, Any]
    expected_cents: Fraction | None
    wrong: tuple[str, ...]


def check_stream(*, played: Played, place: int, stream: dict[str, Any]) -> Row:
    """Compare one stream, as the API shows it, with what must have come of it."""
    expected = played.scene.expected[place]
    wrong = [
        f"{name} is {stream[name]!r}, not {value!r}"
        for name, value in (("state", expected.state), ("outcome", expected.outcome))
        if stream[name] != value
    ]
    if expected.state != "finalized":
        wrong += ["it has a cost although it has no rate"] if stream["cost_usd_cents"] is not None else []
        return _row(played, stream, None, wrong)
    tokens = _tokens(played, place, expected, stream, wrong)
    cost = cents(model=played.scene.model, tokens=tokens)
    if stream["cost_usd_cents"] is None or Fraction(stream["cost_usd_cents"]) != cost:
        wrong.append(f"cost_usd_cents is {stream['cost_usd_cents']}, not {float(cost)}")
    lines = (stream["charge"] or {}).get("lines", [])
    if sum(Fraction(line["usd_cents"]) for line in lines) != cost:
        wrong.append("the lines of the charge do not add up to its cost")
    return _row(played, stream, cost, wrong)


def _tokens(played: Played, place: int, expected: Expected, stream: dict[str, Any], wrong: list[str]) -> Tokens:
    """The tokens that must be billed, noting where the stream shows others."""
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
    """The totals must be the sum of the streams, to the last digit."""
    final = [row for row in rows if row.expected_cents is not None]
    wrong: list[str] = []
    due = sum((row.expected_cents for row in final if row.expected_cents is not None), Fraction(0))
    if Fraction(total["cost_usd_cents"]) != due:
        wrong.append(f"the total is {total['cost_usd_cents']}, the streams add up to {float(due)}")
    if total["stream_count"] != len(final):
        wrong.append(f"the total counts {total['stream_count']} streams, {len(final)} are final")
    if total["accrued_usd_cents"] != "0":
        wrong.append(f"{total['accrued_usd_cents']} cents are still accrued")
    return tuple(wrong)


def _row(played: Played, stream: dict[str, Any], cost: Fraction | None, wrong: Sequence[str]) -> Row:
    return Row(
        scene=played.scene.name,
        title=played.scene.title,
        stream=stream,
        expected_cents=cost,
        wrong=tuple(wrong),
    )
