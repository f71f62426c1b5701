"""The demo's scenes: what a client does with the stock `openai` package, and the streams that must result."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletionToolParam

from metering.lab.demo.upstream_answer import SCENARIO_HEADER

_MESSAGES: list[Any] = [
    {"role": "system", "content": "You are a patient teller of stories."},
    {"role": "user", "content": "Tell me about the harbour master and his two books."},
]
_TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "record_cargo",
        "description": "Write down what a ship has brought.",
        "parameters": {
            "type": "object",
            "properties": {"ship": {"type": "string"}, "barrels": {"type": "integer"}},
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the client received: the number of chunks with output, and the stream's id if an answer began."""

    pieces: int
    stream_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A stream that must result from a scene. `exact`: its output is everything that the upstream sent."""

    outcome: str
    source: str
    state: str = "finalized"
    exact: bool = True
    billed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One situation. `expected` has an entry for each stream, in the order in which they start."""

    name: str
    title: str
    model: str
    act: Callable[["Act"], Seen]
    expected: tuple[Expected, ...]
    cached: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A client of the gateway, and the model that it requests."""

    client: openai.OpenAI
    model: str

    def stream(self, *, scenario: str, **options: Any) -> tuple[str | None, Iterator[Any]]:
        """Request a streamed answer; returns its stream id and its chunks."""
        raw = self.client.chat.completions.with_raw_response.create(
            model=self.model,
            messages=_MESSAGES,
            stream=True,
            extra_headers={SCENARIO_HEADER: scenario},
            **options,
        )
        return raw.headers.get("x-metering-stream-id"), raw.parse()


def _read_all(scenario: str, **options: Any) -> Callable[[Act], Seen]:
    def act(with_: Act) -> Seen:
        stream_id, chunks = with_.stream(scenario=scenario, **options)
        return Seen(pieces=sum(_has_output(chunk) for chunk in chunks), stream_id=stream_id)

    return act


def _has_output(chunk: Any) -> bool:
    return any(choice.delta.content or choice.delta.tool_calls for choice in chunk.choices)


def _request_without_streaming(act: Act) -> Seen:
    raw = act.client.chat.completions.with_raw_response.create(
        model=act.model, messages=_MESSAGES, max_completion_tokens=48
    )
    message = raw.parse().choices[0].message
    return Seen(pieces=int(bool(message.content)), stream_id=raw.headers.get("x-metering-stream-id"))


def _leave_early(act: Act) -> Seen:
    stream_id, chunks = act.stream(scenario="tokens=200, rate=60")
    pieces = 0
    for chunk in chunks:
        pieces += _has_output(chunk)
        if pieces == 25:
            break
    chunks.close()  # type: ignore[attr-defined]
    return Seen(pieces=pieces, stream_id=stream_id)


def _time_out(act: Act) -> Seen:
    try:
        act.client.with_options(timeout=0.5, max_retries=0).chat.completions.create(
            model=act.model, messages=_MESSAGES, stream=True, extra_headers={SCENARIO_HEADER: "delay=5"}
        )
    except openai.APITimeoutError:
        return Seen(pieces=0, stream_id=None)
    raise AssertionError("the upstream answered before its delay")


SCENES = (
    Scene(
        name="completed",
        title="streamed, prompt partly cached",
        model="claude-opus-4.7",
        act=_read_all("tokens=120, rate=400, cached=16"),
        expected=(Expected(outcome="completed", source="provider"),),
        cached=16,
    ),
    Scene(
        name="at-once",
        title="not streamed",
        model="gpt-5.5-pro",
        act=_request_without_streaming,
        expected=(Expected(outcome="completed", source="provider"),),
    ),
    Scene(
        name="tool-call",
        title="a streamed tool call",
        model="gpt-5.5-pro",
        act=_read_all("rate=400", tools=[_TOOL]),
        expected=(Expected(outcome="completed", source="provider"),),
    ),
    Scene(
        name="no-usage",
        title="upstream reports no usage",
        model="gpt-5.5-pro",
        act=_read_all("tokens=90, rate=400, usage=off"),
        expected=(Expected(outcome="completed", source="gateway_count"),),
    ),
    Scene(
        name="cancelled",
        title="client leaves after 25 tokens",
        model="gpt-5.5-pro",
        act=_leave_early,
        expected=(Expected(outcome="cancelled", source="gateway_count", exact=False),),
    ),
    Scene(
        name="impatient",
        title="client leaves before any token",
        model="claude-opus-4.7",
        act=_time_out,
        expected=(Expected(outcome="cancelled", source="estimate", billed=False),),
    ),
    Scene(
        name="retried",
        title="connection drops, SDK retries",
        model="claude-opus-4.7",
        act=_read_all("tokens=40, rate=400, drop_first=1"),
        expected=(
            Expected(outcome="failed", source="estimate", billed=False),
            Expected(outcome="completed", source="provider"),
        ),
    ),
    Scene(
        name="unknown-model",
        title="a model without a rate",
        model="house-preview-1",
        act=_read_all("tokens=20, rate=400"),
        expected=(Expected(outcome="completed", source="provider", state="unpriced"),),
    ),
)
