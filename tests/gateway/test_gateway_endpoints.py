"""The endpoints beside chat: the stock SDKs, unchanged; each answer metered by what the upstream reports."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from metering.gateway.settings import Upstream
from tests.emitter.sink import IngestSink, RunningServer, eventually
from tests.gateway.other_upstream import AUDIO, BROKEN_AFTER, WORDS, OtherUpstream
from tests.gateway.world import KEY, World, running_gateway, settings_of

TEXT = "".join(WORDS)
ASKED = "Tell me of the rings."
FILE = ("speech.mp3", AUDIO, "audio/mpeg")
MESSAGES: Any = [{"role": "user", "content": ASKED}]


@dataclass(frozen=True)
class Seen:
    """What a client got: its text, and the id of the stream."""

    text: str
    stream_id: str


class Others:
    """A gateway before the upstream of the other endpoints, and stock clients."""

    def __init__(self, world: World, upstream: OtherUpstream) -> None:
        self.world, self.upstream = world, upstream
        base = world.gateway_url
        self.openai = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0, timeout=60)
        self.anthropic = anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0, timeout=60)

    def ended(self, stream_id: str) -> dict[str, Any]:
        return self.world.events(stream_id).ended

    def last_ended(self, count: int = 1) -> list[dict[str, Any]]:
        eventually(lambda: len(self.world.ended_streams()) >= count, what=f"{count} streams end")
        return [self.world.events(stream_id).ended for stream_id in self.world.ended_streams()]


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Others]:
    sink, upstream = IngestSink(), OtherUpstream()
    with RunningServer(sink.app) as sink_server, RunningServer(upstream.app) as server:
        upstreams = (
            Upstream(provider="anthropic", base_url=f"{server.url}/v1", models=("claude-*",), api_key="sk-a"),
            Upstream(
                provider="azure",
                base_url=f"{server.url}/v1",
                models=("azure-*",),
                api_key="sk-z",
                api_key_header="api-key",
            ),
            Upstream(provider="openai", base_url=f"{server.url}/v1", models=("*",), api_key="sk-o"),
        )
        settings = settings_of(sink_url=sink_server.url, spool=tmp_path / "spool", upstreams=upstreams)
        with running_gateway(settings) as gateway:
            yield Others(World(gateway.url, server.url, sink, None), upstream)  # type: ignore[arg-type]


def completion(others: Others, model: str) -> Seen:
    raw = others.openai.completions.with_raw_response.create(model=model, prompt=ASKED)
    return Seen(raw.parse().choices[0].text, raw.headers["x-metering-stream-id"])


def completion_stream(others: Others, model: str) -> Seen:
    with others.openai.completions.create(model=model, prompt=ASKED, stream=True) as stream:
        text = "".join(choice.text for chunk in stream for choice in chunk.choices)
        return Seen(text, stream.response.headers["x-metering-stream-id"])


def response(others: Others, model: str) -> Seen:
    raw = others.openai.responses.with_raw_response.create(model=model, input=ASKED)
    return Seen(raw.parse().output_text, raw.headers["x-metering-stream-id"])


def response_stream(others: Others, model: str) -> Seen:
    with others.openai.responses.create(model=model, input=ASKED, stream=True) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        return Seen(text, stream.response.headers["x-metering-stream-id"])


def message(others: Others, model: str) -> Seen:
    raw = others.anthropic.messages.with_raw_response.create(
        model=f"claude-{model}", messages=MESSAGES, max_tokens=99
    )
    return Seen("".join(block.text for block in raw.parse().content), raw.headers["x-metering-stream-id"])  # type: ignore[union-attr]


def message_stream(others: Others, model: str) -> Seen:
    with others.anthropic.messages.stream(model=f"claude-{model}", messages=MESSAGES, max_tokens=99) as stream:
        return Seen("".join(stream.text_stream), stream.response.headers["x-metering-stream-id"])


Ask = Callable[[Others, str], Seen]
STREAMS: dict[str, Ask] = {
    "completions": completion_stream,
    "responses": response_stream,
    "messages": message_stream,
}
WHOLE: dict[str, Ask] = {"completions": completion, "responses": response, "messages": message}
USAGE = {
    "completions": {"input_tokens": 12, "output_tokens": 40},
    "responses": {
        "input_tokens": 12,
        "output_tokens": 40,
        "cache_read_input_tokens": 8,
        "reasoning_output_tokens": 30,
    },
    # Anthropic's input is without the cache.
    "messages": {
        "input_tokens": 12,
        "output_tokens": 40,
        "cache_read_input_tokens": 8,
        "cache_write_input_tokens": 0,
    },
}
OPERATION = {"completions": "text_completion", "responses": "responses", "messages": "messages"}
ID = {"completions": "cmpl-7", "responses": "resp_7", "messages": "msg_7"}
REASON = {"completions": "stop", "responses": "completed", "messages": "end_turn"}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", ["streamed", "whole"])
def test_the_upstreams_usage_is_billed_and_the_text_is_the_clients(others: Others, name: str, kind: str) -> None:
    ask = STREAMS[name] if kind == "streamed" else WHOLE[name]
    seen = ask(others, "gpt-plain")
    assert seen.text == TEXT
    events = others.world.events(seen.stream_id)
    began, ended = events.began, events.ended
    assert (began["operation"], began["streaming"]) == (OPERATION[name], kind == "streamed")
    assert 5 <= began["input_tokens"] <= 16
    assert ended["usage"] == USAGE[name]
    assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
    assert (ended["response_id"], ended["finish_reasons"]) == (ID[name], [REASON[name]])


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", ["streamed", "whole"])
def test_without_usage_the_gateways_count_is_billed(others: Others, name: str, kind: str) -> None:
    ask = STREAMS[name] if kind == "streamed" else WHOLE[name]
    seen = ask(others, "gpt-silent")
    ended = others.ended(seen.stream_id)
    assert (seen.text, ended["outcome"], ended["usage"]["output_tokens"]) == (TEXT, "completed", len(WORDS))
    assert ended["usage_source"] in ("gateway_count", "estimate")


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("how", ["drop", "error"])
def test_an_answer_that_breaks_off_is_failed_billed_for_what_was_written_and_raised_by_the_sdk(
    others: Others, name: str, how: str
) -> None:
    with pytest.raises((openai.APIError, anthropic.APIError)):
        STREAMS[name](others, f"gpt-{how}")
    [ended] = others.last_ended()
    assert (ended["outcome"], ended["usage"]["output_tokens"]) == ("failed", BROKEN_AFTER)
    assert ended["error_type"] == ("upstream_disconnected" if how == "drop" else "overloaded")


def _paths(others: Others) -> dict[str, Callable[[], Any]]:
    return {
        "/completions": lambda: others.openai.completions.create(model="gpt-slow", prompt=ASKED, stream=True),
        "/responses": lambda: others.openai.responses.create(model="gpt-slow", input=ASKED, stream=True),
        "/messages": lambda: others.anthropic.messages.create(
            model="claude-slow", messages=MESSAGES, max_tokens=99, stream=True
        ),
    }


@pytest.mark.parametrize("path", ["/completions", "/responses", "/messages"])
@pytest.mark.parametrize("chunks", [1, 4, 7])
def test_a_client_that_leaves_pays_for_what_the_upstream_had_written(
    others: Others, path: str, chunks: int
) -> None:
    stream = _paths(others)[path]()
    for number, _ in enumerate(stream, start=1):
        if number == chunks:
            break
    stream.close()
    [ended] = others.last_ended()
    asked = others.upstream.of_path(path)
    assert not asked.done
    assert ended["outcome"] == "cancelled"
    written = (ended.get("usage") or {}).get("output_tokens", 0)
    # This upstream cannot tell whether the word that it writes when the connection closes has arrived.
    assert abs(asked.words - written) <= 1


@pytest.mark.parametrize("name", STREAMS)
def test_a_refusal_of_the_upstream_is_the_clients_and_costs_nothing(others: Others, name: str) -> None:
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
        STREAMS[name](others, "gpt-refused")
    [ended] = others.last_ended()
    assert (ended["outcome"], ended["error_type"], ended.get("usage")) == ("failed", "rate_limited", None)


def test_embeddings_are_billed_for_their_input(others: Others) -> None:
    raw = others.openai.embeddings.with_raw_response.create(
        model="embed-plain", input=[ASKED, ASKED], encoding_format="float"
    )
    assert len(raw.parse().data) == 2
    ended = others.ended(raw.headers["x-metering-stream-id"])
    assert (ended["usage"], ended["usage_source"]) == ({"input_tokens": 9, "output_tokens": 0}, "provider")
    for given, tokens in ((ASKED, 6), ([ASKED, ASKED], 12), ([1, 2, 3], 3), ([[1, 2], [3]], 3)):
        raw = others.openai.embeddings.with_raw_response.create(
            model="embed-silent",
            input=given,  # type: ignore[arg-type]
            encoding_format="float",
        )
        ended = others.ended(raw.headers["x-metering-stream-id"])
        assert (ended["outcome"], ended["usage"]) == ("completed", {"input_tokens": tokens, "output_tokens": 0})


def test_images_are_billed_by_their_usage_and_edits_are_uploaded(others: Others) -> None:
    image = ("image.png", b"PNG" * 1_000, "image/png")
    made = others.openai.images.with_raw_response.generate(model="gpt-image-1", prompt=ASKED)
    edited = others.openai.images.with_raw_response.edit(model="gpt-image-1", prompt=ASKED, image=image)
    for raw in (made, edited):
        assert raw.parse().data[0].b64_json == "QUJDREVG"
        ended = others.ended(raw.headers["x-metering-stream-id"])
        assert ended["usage"]["output_tokens"] == 4_160
        assert ended["usage_source"] == "provider"
    assert b"PNG" * 1_000 in others.upstream.of_path("/images/edits").body
    with others.openai.images.generate(model="gpt-image-1", prompt=ASKED, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    raw = others.openai.images.with_raw_response.generate(model="image-silent", prompt=ASKED)
    ended = others.ended(raw.headers["x-metering-stream-id"])
    assert ended["usage"] == {"input_tokens": 6}, "what the image cost is not known, and not claimed to be nothing"


def test_speech_is_passed_on_byte_for_byte_and_its_characters_are_counted(others: Others) -> None:
    raw = others.openai.audio.speech.with_raw_response.create(model="tts-1", voice="alloy", input="Drei Ringe…")
    assert raw.content == AUDIO
    assert raw.headers["content-type"] == "audio/mpeg"
    ended = others.ended(raw.headers["x-metering-stream-id"])
    assert ended["outcome"] == "completed"
    assert ended["usage"]["input_characters"] == 11
    assert "output_tokens" not in ended["usage"]


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("gpt-4o-transcribe", {"input_tokens": 90, "output_tokens": 10, "input_audio_tokens": 90}),
        ("whisper-1", {"audio_seconds": "9"}),
    ],
)
def test_transcriptions_are_billed_by_tokens_or_seconds(others: Others, model: str, usage: dict[str, Any]) -> None:
    create = others.openai.audio.transcriptions.with_raw_response.create
    raw = create(model=model, file=FILE)
    assert raw.parse().text == TEXT  # type: ignore[attr-defined]
    ended = others.ended(raw.headers["x-metering-stream-id"])
    assert (ended["usage"], ended["usage_source"]) == (usage, "provider")
    asked = others.upstream.of_path("/audio/transcriptions")
    assert AUDIO in asked.body
    assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
    plain = create(model=f"{model}-silent", file=FILE, response_format="text")
    assert plain.text == TEXT
    ended = others.ended(plain.headers["x-metering-stream-id"])
    assert (ended["outcome"], ended.get("usage")) == ("completed", None), "unmeasured, and not free"
    with others.openai.audio.transcriptions.create(model=model, file=FILE, stream=True) as stream:
        assert "".join(event.delta for event in stream if event.type == "transcript.text.delta") == TEXT
    translated = others.openai.audio.translations.with_raw_response.create(model=model, file=FILE)
    assert others.ended(translated.headers["x-metering-stream-id"])["usage"] == usage


def test_each_vendors_key_goes_where_its_upstream_looks_for_it(others: Others) -> None:
    message(others, "plain")
    sent = others.upstream.of_path("/messages").headers
    assert (sent["x-api-key"], "authorization" in sent) == ("sk-a", False)
    assert sent["anthropic-version"]
    response(others, "gpt-plain")
    sent = others.upstream.of_path("/responses").headers
    assert (sent["authorization"], "x-api-key" in sent) == ("Bearer sk-o", False)
    response(others, "azure-plain")
    sent = others.upstream.of_path("/responses").headers
    assert (sent["api-key"], "authorization" in sent) == ("sk-z", False)


def test_the_anthropic_sdk_reads_the_gateways_own_errors(others: Others) -> None:
    wrong = anthropic.Anthropic(base_url=others.world.gateway_url, api_key="gk_wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError, match="Incorrect API key"):
        wrong.messages.create(model="claude-plain", messages=MESSAGES, max_tokens=9)
    with pytest.raises(anthropic.NotFoundError, match="does not serve POST /v1/messages/count_tokens"):
        others.anthropic.messages.count_tokens(model="claude-plain", messages=MESSAGES)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (
            lambda client: client.moderations.create(input="x"),
            "does not serve POST /v1/moderations. It serves",
        ),
        (lambda client: client.files.list(), "does not serve GET /v1/files"),
        (lambda client: client.batches.list(), "does not serve GET /v1/batches"),
        (lambda client: client.responses.retrieve("resp_1"), "does not serve GET /v1/responses/resp_1"),
    ],
)
def test_what_is_not_served_says_what_is(others: Others, ask: Callable[[openai.OpenAI], Any], says: str) -> None:
    with pytest.raises(openai.NotFoundError, match=says):
        ask(others.openai)


def test_what_could_not_be_metered_is_refused(others: Others) -> None:
    with pytest.raises(openai.BadRequestError, match="`background` is not served"):
        others.openai.responses.create(model="gpt-plain", input=ASKED, background=True)
    url = f"{others.world.gateway_url}/v1/audio/transcriptions"
    headers = {"authorization": f"Bearer {KEY}"}
    for options, code in (
        ({"json": {"model": "whisper-1"}}, "invalid_form"),
        ({"data": {"model": ["whisper-1", "gpt-4o-transcribe"]}, "files": {"file": FILE}}, "ambiguous_field"),
        ({"data": {"language": "de"}, "files": {"file": FILE}}, "invalid_model"),
        ({"content": b"--x\r\n", "headers": {**headers, "content-type": "multipart/form-data"}}, "invalid_form"),
    ):
        answer = httpx2.post(url, **{"headers": headers, **options})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert not others.world.ended_streams()


def test_responses_of_many_clients_at_once_do_not_mix(others: Others) -> None:
    async def ask(client: openai.AsyncOpenAI, number: int) -> tuple[str, str]:
        raw = await client.responses.with_raw_response.create(
            model=f"gpt-{number}-{'plain' if number % 2 else 'silent'}", input=ASKED
        )
        return raw.headers["x-metering-stream-id"], raw.parse().output_text

    async def scene() -> list[tuple[str, str]]:
        async with openai.AsyncOpenAI(base_url=f"{others.world.gateway_url}/v1", api_key=KEY) as client:
            return list(await asyncio.gather(*(ask(client, number) for number in range(20))))

    began = time.monotonic()
    seen = asyncio.run(scene())
    assert {text for _, text in seen} == {TEXT}
    outputs = [others.ended(stream_id)["usage"]["output_tokens"] for stream_id, _ in seen]
    assert outputs == [40 if number % 2 else len(WORDS) for number in range(20)]
    assert time.monotonic() - began < 60
