"""Several gateway processes share what is kept; one that is killed or stopped leaves what its client was shown."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from tests.emitter.sink import IngestSink, RunningServer, eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    TEXT,
    TOKENS,
    WORDS,
    Behaviour,
    Expected,
    Pause,
    counted,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.hostile.upstream import HostileUpstream
from tests.gateway.process import GatewayProcess, gateway_process
from tests.gateway.resume.valkey import RunningValkey
from tests.gateway.resume.world import Seen, new_key, note_headers
from tests.gateway.world import KEY

pytestmark = pytest.mark.long

_ANY = Expected(usage=None)
_END = [finish(), usage_chunk(openai_usage()), DONE]
_BEHAVIOURS = [
    Behaviour("slow", [*(each for step in words() for each in (step, Pause(0.02))), *_END], _ANY),
    Behaviour("lasts", [*(each for step in words() for each in (step, Pause(0.15))), *_END], _ANY),
    Behaviour("long", [each for step in words() * 400 for each in (step, Pause(0.02))], _ANY),
    Behaviour("thinks", [Pause(3), *words(), *_END], _ANY),
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[HostileUpstream]:
    with HostileUpstream(_BEHAVIOURS) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def sink() -> Iterator[IngestSink]:
    sink = IngestSink()
    with RunningServer(sink.app) as server:
        sink.url = server.url
        yield sink


class Starter:
    """Starts gateways that share the Valkey, each with a folder of its own."""

    def __init__(self, folder: Path, upstream: HostileUpstream, sink: IngestSink, valkey: RunningValkey) -> None:
        self._folder, self._upstream, self._sink, self._valkey = folder, upstream, sink, valkey

    @contextmanager
    def __call__(self, name: str, *arguments: str, grace_seconds: str = "1") -> Iterator[GatewayProcess]:
        (self._folder / name).mkdir()
        settings = {"resume_redis_url": self._valkey.url, "resume_timeout_seconds": "10"}
        settings |= {"resume_max_streams": "100000", "resume_max_streams_per_customer": "100000"}
        with gateway_process(
            self._folder / name,
            sink_url=self._sink.url,
            upstream_url=self._upstream.url,
            arguments=arguments,
            grace_seconds=grace_seconds,
            **settings,
        ) as gateway:
            yield gateway


@pytest.fixture
def start(tmp_path: Path, upstream: HostileUpstream, sink: IngestSink, valkey: RunningValkey) -> Starter:
    return Starter(tmp_path, upstream, sink, valkey)


def _ask(gateway: GatewayProcess, name: str, key: str, *, leave_after: int | None = None) -> Seen:
    seen = Seen()
    headers = {"X-Resume-Key": key}
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
        try:
            with client.chat.completions.create(
                model=f"gpt-4o:{name}", messages=MESSAGES, stream=True, extra_headers=headers
            ) as answer:
                note_headers(seen, answer.response.headers)
                for chunk in answer:
                    seen.text += "".join(choice.delta.content or "" for choice in chunk.choices)
                    seen.chunks += 1
                    if seen.chunks == leave_after:
                        break
        except openai.OpenAIError as error:
            seen.error = error
    return seen


def test_any_worker_continues_what_another_began(
    start: Starter, sink: IngestSink, upstream: HostileUpstream
) -> None:
    with start("one", "--workers", "3") as gateway:
        for after in range(1, TOKENS, 2):
            key, asked = new_key(), len(upstream.records.get("slow", ()))
            first = _ask(gateway, "slow", key, leave_after=after)
            second = _ask(gateway, "slow", key)
            assert (second.text, second.resumed, second.error) == (TEXT, "true", None)
            assert second.stream_id == first.stream_id
            eventually(lambda: f"{first.stream_id}:end" in sink.events, what="the stream ends")  # noqa: B023
            ended = sink.events[f"{first.stream_id}:end"]["data"]
            assert (ended["outcome"], ended["usage"]) == ("completed", counted())
            assert len(upstream.records["slow"]) == asked + 1
        assert gateway.metric('metering_gateway_resume_total{result="kept"}') == TOKENS // 2
        assert gateway.metric('metering_gateway_resume_total{result="resumed"}') == TOKENS // 2


def test_a_killed_gateway_leaves_what_was_shown_and_the_rest_is_said_to_be_lost(
    start: Starter, valkey: RunningValkey
) -> None:
    key, before = new_key(), set(valkey.names())
    with start("killed") as killed, start("other") as other:
        first = _ask(killed, "long", key, leave_after=20)
        [name] = set(valkey.names()) - before
        eventually(lambda: valkey.redis.xlen(name) > 5, what="some of it is written")
        killed.signal(signal.SIGKILL)
        killed.process.wait(60)
        began = time.monotonic()
        second = _ask(other, "long", key)
        assert time.monotonic() - began < 50, "it does not hang"
        assert (second.stream_id, second.resumed) == (first.stream_id, "true")
        assert second.chunks >= 4
        assert (TEXT * 400).startswith(second.text)
        assert "was lost before it was finished" in str(second.error)
        assert other.metric('metering_gateway_resume_total{result="lost"}') == 1


def test_a_gateway_that_is_killed_before_the_first_token_leaves_room_for_a_new_completion(
    start: Starter, upstream: HostileUpstream
) -> None:
    key = new_key()
    with start("killed") as killed, start("other") as other:
        with (
            openai.OpenAI(base_url=f"{killed.url}/v1", api_key=KEY, max_retries=0, timeout=0.5) as client,
            pytest.raises(openai.APITimeoutError),
        ):
            client.chat.completions.create(
                model="gpt-4o:thinks", messages=MESSAGES, stream=True, extra_headers={"X-Resume-Key": key}
            )
        killed.signal(signal.SIGKILL)
        killed.process.wait(60)
        again = _ask(other, "thinks", key)
        assert (again.text, again.resumed, again.resumable) == (TEXT, "false", "true")
        assert len(upstream.records["thinks"]) == 2


def test_an_answer_is_finished_within_the_grace_of_a_gateway_that_stops(start: Starter) -> None:
    key = new_key()
    with start("stopped", grace_seconds="30") as stopped, start("other") as other:
        first = _ask(stopped, "lasts", key, leave_after=3)
        stopped.signal(signal.SIGTERM)
        second = _ask(other, "lasts", key)
        assert (second.text, second.stream_id, second.error) == (TEXT, first.stream_id, None)


def test_after_the_grace_a_client_that_comes_back_learns_why_its_answer_ended(start: Starter) -> None:
    key = new_key()
    with start("stopped") as stopped, start("other") as other:
        first = _ask(stopped, "long", key, leave_after=10)
        stopped.signal(signal.SIGTERM)
        stopped.process.wait(60)
        second = _ask(other, "long", key)
        assert second.stream_id == first.stream_id
        assert second.text.startswith("".join(WORDS[:10]))
        assert "restarting" in str(second.error)


def test_a_client_that_came_back_to_a_gateway_that_stops_may_come_back_once_more(start: Starter) -> None:
    key, seen = new_key(), []
    with start("one", grace_seconds="30") as one, start("stopped") as stopped:
        first = _ask(one, "lasts", key, leave_after=1)
        reader = threading.Thread(target=lambda: seen.append(_ask(stopped, "lasts", key)))
        reader.start()
        resumed = 'metering_gateway_resume_total{result="resumed"}'
        eventually(lambda: stopped.metric(resumed) == 1, what="it reads")
        stopped.signal(signal.SIGTERM)
        reader.join(60)
        assert "Try again with the same X-Resume-Key" in str(seen[0].error)
        again = _ask(one, "lasts", key)
        assert (again.text, again.stream_id) == (TEXT, first.stream_id)
