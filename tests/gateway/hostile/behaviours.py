"""The vocabulary of hostile answers: what an upstream writes, and what the gateway has to make of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metering.answers.inputs import count_input
from metering.answers.tokens import counter_for
from tests.gateway.asking import MESSAGES

# Each word is one token of o200k_base, with its space.
_SENTENCE = "the old master kept two books of every ship and its crew in his house near the water for years"
WORDS = tuple(f" {word}" for word in _SENTENCE.split())
TEXT = "".join(WORDS)
TOKENS = len(WORDS)
# The tokens of the request that the tests send; the usage of the behaviours says the same.
PROMPT = count_input(request={"messages": MESSAGES}, counter=counter_for(model="gpt-4o")).tokens


@dataclass(frozen=True)
class Write:
    """Bytes of the answer's body; `tokens` is how many of the model's tokens they carry."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True)
class Pause:
    """The upstream does nothing for this long."""

    seconds: float


@dataclass(frozen=True)
class End:
    """How the connection ends early: `fin` or `rst`."""

    how: str


Step = Write | Pause | End


@dataclass(frozen=True)
class Expected:
    """What the client sees and what is billed; `usage` None means that nothing is."""

    usage: dict[str, Any] | None
    source: str | None = "gateway_count"
    outcome: str = "completed"
    text: str | None = TEXT
    error: str | None = None
    error_type: str | None = None


@dataclass(frozen=True)
class Behaviour:
    """One way to answer. `framing` is `chunked`, `length` or `close`.

    Without `notices`, a half-closed connection is written to until it breaks.

    With `refuses_usage_option`, a request with `stream_options` is answered with this status and nothing else.
    """

    name: str
    steps: Sequence[Step]
    expected: Expected
    model: str = "gpt-4o"
    status: int = 200
    content_type: str | None = "text/event-stream"
    headers: tuple[tuple[str, str], ...] = ()
    framing: str = "chunked"
    piece: int = 0
    before_head: bytes = b""
    refuses_usage_option: int = 0
    notices: bool = True
    request: dict[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> "Behaviour":
        return replace(self, **changes)


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def document(delta: dict[str, Any] | None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk with one choice. `choice` and `drop` in `more` change or remove fields of it."""
    choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish, **more.pop("choice", {})}
    for name in more.pop("drop", ()):
        del choice[name]
    return {
        "id": "chatcmpl-hostile",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "hostile",
        "choices": [choice],
        **more,
    }


def words(count: int = TOKENS, **more: Any) -> list[Step]:
    """The first words, each in a chunk of its own."""
    return [Write(event(document({"content": word}, **more)), 1) for word in WORDS[:count]]


def finish(reason: str = "stop", **more: Any) -> Write:
    return Write(event(document({}, finish=reason, **more)))


def at_once(behaviour: Behaviour) -> Behaviour:
    """The behaviour with all its bytes in one write: a client that fails on the first ones changes nothing."""
    steps = [step for step in behaviour.steps if isinstance(step, Write)]
    whole = Write(b"".join(step.data for step in steps), sum(step.tokens for step in steps))
    return behaviour.but(steps=[whole])


def usage_chunk(usage: Any, **more: Any) -> Write:
    return Write(event({**document({}), "choices": [], "usage": usage, **more}))


DONE = Write(b"data: [DONE]\n\n")


def openai_usage(prompt: int = PROMPT, completion: int = TOKENS, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def counted(output: int = TOKENS, **more: Any) -> dict[str, Any]:
    """The usage that is billed, with the input that the test's request has."""
    return {"input_tokens": PROMPT, "output_tokens": output, **more}


def by_provider(output_tokens: int = TOKENS, **usage: Any) -> Expected:
    return Expected(usage=counted(output_tokens, **usage), source="provider")
