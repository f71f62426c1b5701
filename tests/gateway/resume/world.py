"""Gateways that keep answers in one Valkey, in front of the hostile upstream, and clients that come back."""

import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai

from metering.gateway import create_app
from metering.gateway.resume.settings import ResumeSettings
from metering.gateway.server import GatewayProtocol
from metering.gateway.settings import Upstream
from tests.emitter.sink import IngestSink, RunningServer, eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import Behaviour
from tests.gateway.hostile.upstream import HostileUpstream, Record
from tests.gateway.resume.valkey import RunningValkey
from tests.gateway.world import KEY, StreamEvents, settings_of

_keys = itertools.count(1)


def new_key() -> str:
    """An `X-Resume-Key` that no other test has."""
    return f"a-resume-key-of-test-{next(_keys)}"


@dataclass
class Seen:
    """What a client saw of an answer."""

    stream_id: str = ""
    resumed: str = ""
    resumable: str = ""
    text: str = ""
    chunks: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class ResumeWorld:
    """One or more gateways, `urls`, that share a Valkey."""

    urls: list[str]
    upstream: HostileUpstream
    sink: IngestSink
    valkey: RunningValkey
    asked: "itertools.count[int]" = field(default_factory=itertools.count)

    def client(self, *, key: str = KEY, gateway: int = 0, **options: Any) -> openai.OpenAI:
        options = {"max_retries": 0, "timeout": 60, **options}
        return openai.OpenAI(base_url=f"{self.urls[gateway]}/v1", api_key=key, **options)

    def ask(
        self,
        name: str,
        resume_key: str | None,
        *,
        leave_after: int | None = None,
        gateway: int = 0,
        key: str = KEY,
        **options: Any,
    ) -> Seen:
        """Stream an answer with the stock client, and leave after so many chunks with text."""
        seen = Seen()
        headers = {} if resume_key is None else {"X-Resume-Key": resume_key}
        options = {"messages": MESSAGES, "extra_headers": headers, **options}
        with self.client(key=key, gateway=gateway) as client:
            try:
                with client.chat.completions.create(model=f"gpt-4o:{name}", stream=True, **options) as answer:
                    note_headers(seen, answer.response.headers)
                    for chunk in answer if leave_after != 0 else ():
                        text = "".join(choice.delta.content or "" for choice in chunk.choices)
                        seen.text += text
                        seen.chunks += bool(text)
                        if seen.chunks == leave_after:
                            break
            except openai.OpenAIError as error:
                seen.error = error
        return seen

    def events(self, stream_id: str) -> StreamEvents:
        """The events of a stream that has ended."""
        eventually(lambda: f"{stream_id}:end" in self.sink.events, what=f"stream {stream_id} ends")
        return StreamEvents(self.sink.of_stream(stream_id))

    def requests(self, name: str) -> list[Record]:
        """What the upstream was asked for a behaviour."""
        return self.upstream.records.get(name, [])

    def metric(self, result: str) -> float:
        """How often a request or an answer of the first gateway had this result."""
        return self._metric(f'metering_gateway_resume_total{{result="{result}"}} ')

    def problem(self, kind: str) -> float:
        """How often the first gateway had this problem."""
        return self._metric(f'metering_gateway_problems_total{{kind="{kind}"}} ')

    def _metric(self, name: str) -> float:
        lines = httpx2.get(f"{self.urls[0]}/metrics", timeout=60).text.splitlines()
        return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


def note_headers(seen: Seen, headers: Any) -> None:
    seen.stream_id = headers["x-metering-stream-id"]
    seen.resumed = headers.get("x-metering-resumed", "")
    seen.resumable = headers.get("x-metering-resumable", "")


@contextmanager
def resume_world(
    behaviours: list[Behaviour],
    *,
    valkey: RunningValkey,
    spool: Path,
    gateways: int = 1,
    stall_seconds: float = 60.0,
    **options: Any,
) -> Iterator[ResumeWorld]:
    """Gateways in this process. They wait long for Valkey, and keep as much as the tests ask for."""
    sink = IngestSink()
    usual = {"timeout_seconds": 10.0, "max_streams": 100_000, "max_streams_per_customer": 100_000}
    resume = ResumeSettings(url=valkey.url, **{**usual, **options})
    with ExitStack() as stack:
        sink_url = stack.enter_context(RunningServer(sink.app)).url
        upstream = stack.enter_context(HostileUpstream(behaviours))
        upstreams = (Upstream(provider="openai", base_url=f"{upstream.url}/v1", models=("*",), api_key="sk-x"),)
        urls = []
        for number in range(gateways):
            settings = settings_of(
                sink_url=sink_url,
                spool=spool / str(number),
                upstreams=upstreams,
                resume=resume,
                stall_seconds=stall_seconds,
            )
            app = create_app(settings=settings)
            server = RunningServer(app, http=GatewayProtocol, timeout_graceful_shutdown=1)
            urls.append(stack.enter_context(server).url)
        yield ResumeWorld(urls, upstream, sink, valkey)


def raw_request(name: str, resume_key: str, *, key: str = KEY, **more: Any) -> bytes:
    """A streamed request as bytes, for clients that do not read."""
    body = json.dumps({"model": f"gpt-4o:{name}", "stream": True, "messages": MESSAGES, **more}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    head += f"x-resume-key: {resume_key}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
