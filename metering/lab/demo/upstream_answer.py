"""The demo upstream's answers: the scenario that a request selects, and the deltas of the answer.

Tokens are those of o200k_base, one per delta, so the reported usage is exact.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import bpe_openai

from metering.core.errors import MeteringError

SCENARIO_HEADER = "x-upstream-scenario"

TEXT = """\
The harbour master kept two books. In the first he wrote what came in: the name of each ship, the hour, \
the cargo as her captain told it, and the weather. He wrote in ink, and he never struck out a line. When \
a captain came back in the evening and said that he had been mistaken, that there were forty barrels and \
not fifty, the harbour master nodded, dipped his pen, and wrote a second line below the first. "The \
first line is what you told me," he said. "The second is what you told me later. Both of them happened."

In the second book he kept the sums. That one he wrote in pencil, for he held that a sum is only an \
opinion about the facts, and that opinions should be easy to change. Every quarter the merchants sent a \
clerk from the town, a careful young woman with cold hands, and she would sit by his stove and add up \
the first book from the beginning. If she came to the same figures as the pencil, they drank tea. If she \
did not, they drank tea anyway, and afterwards they looked for the reason.

One winter a storm took the roof, and the second book was soaked until no figure in it could be read. \
The merchants were alarmed, and rode out through the snow to see what could be saved. They found the \
harbour master at his table, quite calm, with the first book open before him and a new pencil in his \
hand. "It will take me three days," he said. "Had it been the other book, it would have taken me for \
ever."

The clerk asked him once about the ships that left in the middle of unloading. It happened: a captain \
saw the wind turn, cut his ropes, and was gone with half of his cargo still aboard. What should such a \
man pay? The harbour master thought about it for the length of a pipe. "For what stands on the quay," he \
said at last. "Not for what he meant to bring, and not for nothing. We carried those crates. Here they \
are. One can count them." And he took the lantern, and went out into the rain, and counted them, and \
wrote the number down in ink.
"""

_TOKENS_PER_MESSAGE = 3
_TOKENS_BEFORE_ANSWER = 3


class ScenarioError(MeteringError):
    """The scenario header has an unknown name or a bad value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The behaviour for one request: `x-upstream-scenario: tokens=50, drop_after=20`. In seconds and tokens/s."""

    tokens: int | None = None
    rate: float | None = None
    delay: float = 0.0
    first_token_delay: float = 0.0
    usage: bool = True
    status: int = 200
    drop_first: int = 0
    drop_after: int | None = None
    stall_after: int | None = None
    error_after: int | None = None
    cached: int | None = None
    reasoning: int = 0
    snapshot: bool = False


_SWITCHES = {"on": True, "off": False}
_FLAGS = frozenset({"usage", "snapshot"})
_NUMBERS = frozenset({"rate", "delay", "first_token_delay"})


def parse_scenario(*, header: str) -> Scenario:
    """The scenario of a header.

    Raises:
        ScenarioError: a name is unknown or a value is bad; the message names it.
    """
    known = {field.name for field in fields(Scenario)}
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in header.split(","))):
        name, _, value = (part.strip() for part in item.partition("="))
        if name not in known:
            raise ScenarioError(f"{SCENARIO_HEADER}: {name!r} is not one of {', '.join(sorted(known))}")
        try:
            values[name] = _SWITCHES[value] if name in _FLAGS else (float if name in _NUMBERS else int)(value)
        except (KeyError, ValueError) as error:
            raise ScenarioError(f"{SCENARIO_HEADER}: {name} cannot be {value!r}") from error
    return Scenario(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """One step of one choice, and its number of output tokens."""

    choice: int
    delta: dict[str, Any]
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, in the order in which it is streamed."""

    deltas: tuple[Delta, ...]
    finish_reasons: tuple[str, ...]
    prompt_tokens: int
    reasoning_tokens: int

    @property
    def completion_tokens(self) -> int:
        return sum(delta.tokens for delta in self.deltas)


def compose(*, request: dict[str, Any], scenario: Scenario) -> Answer:
    """The answer to a request: a tool call if it offers tools, JSON if it asks for JSON, else the text."""
    choices = max(1, min(int(request.get("n") or 1), 16))
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    per_choice: list[list[Delta]] = []
    reasons: list[str] = []
    for index in range(choices):
        deltas, reason = list(_reasoning(scenario, index)), "stop"
        if _calls_tool(request):
            deltas += _tool_call(request, index)
            reason = "tool_calls"
        else:
            deltas += _content(request, scenario, index)
        kept = _limited(deltas, limit)
        per_choice.append(kept)
        reasons.append(reason if len(kept) == len(deltas) else "length")
    longest = max(len(deltas) for deltas in per_choice)
    interleaved = [deltas[step] for step in range(longest) for deltas in per_choice if step < len(deltas)]
    return Answer(
        deltas=tuple(interleaved),
        finish_reasons=tuple(reasons),
        prompt_tokens=_count_prompt(request),
        reasoning_tokens=sum(delta.tokens for delta in interleaved if "reasoning_content" in delta.delta),
    )


def _reasoning(scenario: Scenario, index: int) -> Iterator[Delta]:
    for piece in _pieces_of_text(scenario.reasoning):
        yield Delta(choice=index, delta={"reasoning_content": piece}, tokens=1)


def _content(request: dict[str, Any], scenario: Scenario, index: int) -> Iterator[Delta]:
    wanted = request.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        pieces = _pieces(json.dumps(_example(wanted["json_schema"]["schema"])))
    elif wanted.get("type") == "json_object":
        pieces = _pieces('{"answer": "Count what stands on the quay."}')
    else:
        pieces = _pieces_of_text(len(_text_pieces()) if scenario.tokens is None else scenario.tokens)
    for piece in pieces:
        yield Delta(choice=index, delta={"content": piece}, tokens=1)


def _calls_tool(request: dict[str, Any]) -> bool:
    answered = request["messages"][-1].get("role") == "tool"
    return bool(request.get("tools")) and request.get("tool_choice") != "none" and not answered


def _tool_call(request: dict[str, Any], index: int) -> Iterator[Delta]:
    function = request["tools"][0]["function"]
    opening = {"name": function["name"], "arguments": ""}
    call = {"index": 0, "id": f"call_demo{index}", "type": "function", "function": opening}
    yield Delta(choice=index, delta={"tool_calls": [call]}, tokens=len(_pieces(function["name"])))
    for piece in _pieces(json.dumps(_example(function.get("parameters") or {}))):
        step = {"index": 0, "function": {"arguments": piece}}
        yield Delta(choice=index, delta={"tool_calls": [step]}, tokens=1)


def _limited(deltas: list[Delta], limit: int | None) -> list[Delta]:
    if limit is None:
        return deltas
    kept: list[Delta] = []
    spent = 0
    for delta in deltas:
        spent += delta.tokens
        if spent > limit:
            break
        kept.append(delta)
    return kept


def _example(schema: dict[str, Any]) -> Any:
    """A value that fits the schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _example(inner) for name, inner in (schema.get("properties") or {}).items()}
        case "array":
            return [_example(schema.get("items") or {})]
        case "integer" | "number":
            return 42
        case "boolean":
            return True
        case _:
            return "the old harbour"


def _count_prompt(request: dict[str, Any]) -> int:
    """Prompt tokens as OpenAI counts them: role and content, three more per message, three before the answer."""
    texts = [str(message.get(name) or "") for message in request["messages"] for name in ("role", "content")]
    overhead = _TOKENS_PER_MESSAGE * len(request["messages"]) + _TOKENS_BEFORE_ANSWER
    return sum(len(_pieces(text)) for text in texts) + overhead


def _pieces_of_text(count: int) -> list[str]:
    """The first `count` tokens of the text, which is repeated as needed."""
    pieces = _text_pieces()
    return [pieces[at % len(pieces)] for at in range(count)]


@cache
def _text_pieces() -> tuple[str, ...]:
    return tuple(_pieces(TEXT))


def _pieces(text: str) -> list[str]:
    """The text's tokens as strings. Characters of several tokens would be lost; the demo has none."""
    encoding = _encoding()
    tokens = encoding.encode_ordinary(text)
    return [part.decode(errors="replace") for part in encoding.decode_tokens_bytes(tokens)]


@cache
def _encoding() -> Any:
    return bpe_openai.get_encoding("o200k_base")
