"""One gateway in front of the hostile upstream, and the stock client that asks it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from metering.gateway.settings import Upstream
from tests.emitter.sink import IngestSink, RunningServer, eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import Behaviour
from tests.gateway.hostile.upstream import HostileUpstream
from tests.gateway.world import KEY, StreamEvents, running_gateway, settings_of

_PROVIDERS = {"openai": "gpt-*", "anthropic": "claude*", "x-ai": "grok*", "google": "gemini*", "other": "*"}


@dataclass(frozen=True)
class Answered:
    """What the client saw: the text, the error it raised, and the id of the stream."""

    stream_id: str
    text: str
    error: openai.OpenAIError | Exception | None


@dataclass(frozen=True)
class HostileWorld:
    """The gateway, its upstream, and where its events arrive."""

    url: str
    upstream: HostileUpstream
    sink: IngestSink

    def events(self, stream_id: str) -> StreamEvents:
        eventually(lambda: f"{stream_id}:end" in self.sink.events, what=f"stream {stream_id} ends")
        return StreamEvents(self.sink.of_stream(stream_id))

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=60)

    def ask(self, client: openai.OpenAI, behaviour: Behaviour) -> Answered:
        """Ask as the behaviour's request says, and read to the end or to the error."""
        asked = {"model": f"{behaviour.model}:{behaviour.name}", "messages": MESSAGES, **behaviour.request}
        stream = asked.pop("stream", True)
        seen = _Seen()
        try:
            if stream is False:
                seen.read_whole(client, asked)
            else:
                # The stock client insists on a boolean, the request need not.
                seen.read_stream(client, asked, {} if stream is True else {"stream": stream})
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is part of what the client sees
            seen.note(error)
        return Answered(seen.stream_id, seen.text, seen.error)


class _Seen:
    def __init__(self) -> None:
        self.stream_id = ""
        self.text = ""
        self.error: Exception | None = None

    def read_stream(self, client: openai.OpenAI, asked: dict[str, Any], body: dict[str, Any]) -> None:
        with client.chat.completions.create(**asked, stream=True, extra_body=body) as answer:
            self.stream_id = answer.response.headers["x-metering-stream-id"]
            for chunk in answer:
                for choice in chunk.choices or ():
                    if choice.delta is not None and isinstance(choice.delta.content, str):
                        self.text += choice.delta.content

    def read_whole(self, client: openai.OpenAI, asked: dict[str, Any]) -> None:
        raw = client.chat.completions.with_raw_response.create(**asked)
        self.stream_id = raw.headers["x-metering-stream-id"]
        content = raw.parse().choices[0].message.content
        self.text = content if isinstance(content, str) else ""

    def note(self, error: Exception) -> None:
        self.error = error
        response = getattr(error, "response", None)
        if response is not None:
            self.stream_id = response.headers.get("x-metering-stream-id", self.stream_id)


@contextmanager
def hostile_world(behaviours: list[Behaviour], spool: Path, **options: Any) -> Iterator[HostileWorld]:
    sink = IngestSink()
    with RunningServer(sink.app) as sink_server, HostileUpstream(behaviours) as upstream:
        upstreams = tuple(
            Upstream(provider=provider, base_url=f"{upstream.url}/v1", models=(models,), api_key="sk-x", **options)
            for provider, models in _PROVIDERS.items()
        )
        settings = settings_of(sink_url=sink_server.url, spool=spool, upstreams=upstreams)
        with running_gateway(settings) as gateway:
            yield HostileWorld(gateway.url, upstream, sink)
