"""Short ways to ask for a completion in tests."""

from dataclasses import dataclass
from typing import Any

import openai

MESSAGES: Any = [{"role": "user", "content": "How did the harbour master keep his books?"}]


def scenario(**wanted: object) -> dict[str, str]:
    """The headers that tell the demo upstream how to behave."""
    return {"x-upstream-scenario": ", ".join(f"{name}={value}" for name, value in wanted.items())}


@dataclass(frozen=True)
class Streamed:
    """A streamed answer that was read to its end."""

    stream_id: str
    chunks: list[Any]

    @property
    def text(self) -> str:
        return "".join(c.delta.content or "" for chunk in self.chunks for c in chunk.choices)


def stream(
    client: openai.OpenAI, *, model: str = "claude-opus-4.7", headers: Any = None, **options: Any
) -> Streamed:
    """Stream a completion with the stock client, to the end."""
    options = {"messages": MESSAGES, "extra_headers": headers, **options}
    with client.chat.completions.create(model=model, stream=True, **options) as answer:
        return Streamed(answer.response.headers["x-metering-stream-id"], list(answer))
