"""What is kept is shown again by every endpoint, streamed or not, to the stock SDKs of both vendors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from metering.gateway.resume.settings import ResumeSettings
from metering.gateway.settings import Upstream
from tests.emitter.sink import IngestSink, RunningServer, eventually
from tests.gateway.other_upstream import AUDIO, WORDS, OtherUpstream
from tests.gateway.resume.valkey import RunningValkey
from tests.gateway.resume.world import new_key
from tests.gateway.world import KEY, running_gateway, settings_of

TEXT = "".join(WORDS)
ASKED = "Tell me of the rings."
MESSAGES: Any = [{"role": "user", "content": ASKED}]
FILE = ("speech.mp3", AUDIO, "audio/mpeg")


@dataclass(frozen=True)
class Others:
    """Stock clients of a gateway before an upstream that answers all endpoints."""

    upstream: OtherUpstream
    sink: IngestSink
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic

    def outcome(self, stream_id: str) -> Any:
        eventually(lambda: f"{stream_id}:end" in self.sink.events, what="the stream ends")
        return self.sink.events[f"{stream_id}:end"]["data"]["outcome"]


@pytest.fixture(scope="module")
def others(valkey: RunningValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    sink, upstream = IngestSink(), OtherUpstream()
    with RunningServer(sink.app) as sink_server, RunningServer(upstream.app) as server:
        settings = settings_of(
            sink_url=sink_server.url,
            spool=Path(tmp_path_factory.mktemp("spool")),
            upstreams=(Upstream(provider="openai", base_url=f"{server.url}/v1", models=("*",), api_key="sk-o"),),
            resume=ResumeSettings(url=valkey.url, timeout_seconds=10),
        )
        options: dict[str, Any] = {"api_key": KEY, "max_retries": 0, "timeout": 60}
        with running_gateway(settings) as gateway:
            yield Others(
                upstream,
                sink,
                openai.OpenAI(base_url=f"{gateway.url}/v1", **options),
                anthropic.Anthropic(base_url=gateway.url, **options),
            )


@dataclass
class Seen:
    """What a client got of a stream."""

    text: str = ""
    headers: Any = None


Ask = Callable[[Others, dict[str, str], int], Seen]


def _completions(others: Others, headers: dict[str, str], leave_after: int) -> Seen:
    seen = Seen()
    options: dict[str, Any] = {"prompt": ASKED, "stream": True, "extra_headers": headers}
    with others.openai.completions.create(model="gpt-slow", **options) as stream:
        seen.headers = stream.response.headers
        for chunk in stream:
            seen.text += "".join(choice.text for choice in chunk.choices)
            if seen.text.count(" ") == leave_after:
                break
    return seen


def _responses(others: Others, headers: dict[str, str], leave_after: int) -> Seen:
    seen = Seen()
    with others.openai.responses.create(
        model="gpt-slow", input=ASKED, stream=True, extra_headers=headers
    ) as stream:
        seen.headers = stream.response.headers
        for event in stream:
            seen.text += event.delta if event.type == "response.output_text.delta" else ""
            if seen.text.count(" ") == leave_after:
                break
    return seen


def _messages(others: Others, headers: dict[str, str], leave_after: int) -> Seen:
    seen = Seen()
    options: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 99, "extra_headers": headers}
    with others.anthropic.messages.stream(model="claude-slow", **options) as stream:
        seen.headers = stream.response.headers
        for text in stream.text_stream:
            seen.text += text
            if seen.text.count(" ") == leave_after:
                return seen
        assert stream.get_final_message().stop_reason == "end_turn"
    return seen


@pytest.mark.parametrize(
    ("path", "ask"), [("/completions", _completions), ("/responses", _responses), ("/messages", _messages)]
)
def test_a_stream_of_every_endpoint_is_resumed(others: Others, path: str, ask: Ask) -> None:
    headers = {"X-Resume-Key": new_key()}
    first = ask(others, headers, 3)
    second = ask(others, headers, -1)
    assert first.headers["x-metering-resumed"] == "false"
    assert second.headers["x-metering-resumed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.text == TEXT
    stream_id = second.headers["x-metering-stream-id"]
    assert stream_id == first.headers["x-metering-stream-id"]
    assert others.outcome(stream_id) == "completed"
    assert sum(asked.path == path for asked in others.upstream.asked) == 1


def test_a_completion_that_is_not_streamed_is_kept_likewise(others: Others) -> None:
    headers = {"X-Resume-Key": new_key()}
    raw = [
        others.anthropic.messages.with_raw_response.create(
            model="claude-whole", messages=MESSAGES, max_tokens=98, extra_headers=headers
        )
        for _ in range(2)
    ]
    assert [each.headers["x-metering-resumed"] for each in raw] == ["false", "true"]
    assert raw[0].http_response.content == raw[1].http_response.content
    assert raw[0].headers["x-metering-stream-id"] == raw[1].headers["x-metering-stream-id"]
    assert sum(b'"max_tokens":98' in asked.body for asked in others.upstream.asked) == 1


def test_speech_is_kept_likewise(others: Others) -> None:
    headers = {"X-Resume-Key": new_key()}
    options: dict[str, Any] = {"model": "tts", "voice": "alloy", "input": ASKED, "extra_headers": headers}
    audio = [others.openai.audio.speech.create(**options).content for _ in range(2)]
    assert audio == [AUDIO, AUDIO]
    assert sum(asked.path == "/audio/speech" for asked in others.upstream.asked) == 1


def test_a_form_cannot_be_resumed_and_the_answer_says_so(others: Others) -> None:
    """Each time that a form is sent it has another boundary."""
    for number in (1, 2):
        raw = others.openai.audio.transcriptions.with_raw_response.create(
            model="gpt-4o-transcribe", file=FILE, extra_headers={"X-Resume-Key": "the-key-of-a-form-1"}
        )
        assert (raw.headers["x-metering-resumed"], raw.headers["x-metering-resumable"]) == ("false", "false")
        assert sum(asked.path == "/audio/transcriptions" for asked in others.upstream.asked) == number


def test_the_key_never_goes_upstream(others: Others) -> None:
    others.openai.embeddings.create(model="e", input="x", extra_headers={"X-Resume-Key": "the-key-of-embeddings"})
    assert all("x-resume-key" not in asked.headers for asked in others.upstream.asked)
