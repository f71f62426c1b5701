"""Clients that leave a hostile upstream: billed is what it had written before it noticed."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    PROMPT,
    TOKENS,
    WORDS,
    Behaviour,
    Expected,
    Pause,
    Step,
    Write,
    counted,
    document,
    event,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.hostile.running import HostileWorld, hostile_world
from tests.gateway.world import KEY

_ANY = Expected(usage=None)


def _slowly(steps: list[Step], seconds: float = 0.02) -> list[Step]:
    return [each for step in steps for each in (step, Pause(seconds))]


_HIDDEN = openai_usage(PROMPT, 520, completion_tokens_details={"reasoning_tokens": 500})
_AUDIO = [
    Write(event(document({"audio": {"id": "a", "transcript": word, "data": "UklGRg=="}})), 1) for word in WORDS
]
_AT_ONCE = [*words(), finish(), usage_chunk(_HIDDEN), DONE]


def _bytes_of(steps: list[Step]) -> list[bytes]:
    return [step.data for step in steps if isinstance(step, Write)]


_LATE = [
    Behaviour("late-usage", [*words(), finish(), Pause(0.2), usage_chunk(_HIDDEN), DONE], _ANY, model="gpt-4o"),
    Behaviour("late-usage-after-done", [*words(), finish(), DONE, Pause(0.2), usage_chunk(_HIDDEN)], _ANY),
    Behaviour(
        "late-usage-cached",
        [
            *words(),
            finish(),
            Pause(0.2),
            usage_chunk(openai_usage(PROMPT, 20, prompt_tokens_details={"cached_tokens": 8})),
        ],
        _ANY,
    ),
    Behaviour("no-usage-ever", [*words(), finish(), Pause(60)], _ANY),
]
_BEHAVIOURS = [
    # They do not end by themselves: on a busy machine that can come before the gateway has left.
    Behaviour("slow", [*_slowly(words() * 50), Pause(60)], _ANY),
    Behaviour("quick", [*_slowly(words() * 500, 0.001), Pause(60)], _ANY),
    Behaviour("deaf", _slowly(words() * 5_000, 0.001), _ANY, notices=False),
    Behaviour("before-head", [Pause(60), *words()], _ANY),
    Behaviour("before-first", [Write(event(document({"role": "assistant", "content": ""}))), Pause(60)], _ANY),
    Behaviour(
        "early-usage",
        [usage_chunk(openai_usage(PROMPT, 1, prompt_tokens_details={"cached_tokens": 8})), *words(6), Pause(60)],
        _ANY,
        model="claude",
    ),
    Behaviour(
        "running-usage",
        [
            *(
                Write(event({**document({"content": word}), "usage": openai_usage(PROMPT, at + 7)}), 1)
                for at, word in enumerate(WORDS)
            ),
            Pause(60),
        ],
        _ANY,
    ),
    Behaviour(
        "nan",
        [*(Write(event(document({"content": word}, score=float("nan"))), 1) for word in WORDS), Pause(60)],
        _ANY,
    ),
    Behaviour("index-null", [*words(choice={"index": None}), Pause(60)], _ANY),
    Behaviour("audio", [usage_chunk({"prompt_tokens": PROMPT}), *_AUDIO, Pause(60)], _ANY, model="gpt-audio"),
    Behaviour(
        "reasoning",
        [
            *(Write(event(document({"reasoning": word, "reasoning_content": word})), 1) for word in WORDS),
            Pause(60),
        ],
        _ANY,
    ),
    Behaviour("plain-type", [*words(), Pause(60)], _ANY, content_type="text/plain"),
    Behaviour("json", [Pause(60)], _ANY, content_type="application/json", request={"stream": False}),
    Behaviour("at-once", [Write(b"".join(_bytes_of(_AT_ONCE)), TOKENS), Pause(60)], _ANY),
    *_LATE,
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileWorld]:
    with hostile_world(_BEHAVIOURS, tmp_path_factory.mktemp("spool")) as world:
        yield world


def _leave(world: HostileWorld, name: str, *, after: int = TOKENS, at_finish: bool = False) -> dict[str, Any]:
    """Read that many chunks with text, or to the finish reason, and leave; returns the end of the stream."""
    behaviour = next(each for each in _BEHAVIOURS if each.name == name)
    model = f"{behaviour.model}:{name}"
    with (
        world.client() as client,
        client.chat.completions.create(model=model, messages=MESSAGES, stream=True) as answer,
    ):
        taken = 0
        for chunk in answer if after or at_finish else ():
            taken += bool(chunk.choices and chunk.choices[0].delta.model_dump(exclude_none=True))
            if (chunk.choices and chunk.choices[0].finish_reason) or (taken == after and not at_finish):
                break
    return world.events(answer.response.headers["x-metering-stream-id"]).ended


@pytest.mark.parametrize("after", range(11))
def test_a_cancel_at_any_token_is_billed_as_written(hostile: HostileWorld, after: int) -> None:
    ended = _leave(hostile, "slow", after=after)
    record = hostile.upstream.last("slow")
    eventually(lambda: record.disconnected, what="the upstream notices")
    billed = ended.get("usage", {"output_tokens": 0})["output_tokens"]
    assert ended["outcome"] == "cancelled"
    assert after <= billed == record.tokens_written


@pytest.mark.parametrize("after", [1, 2, 3, 5, 8, 13, 21, 34])
def test_what_is_written_until_the_upstream_notices_is_billed_to_the_last_token(
    hostile: HostileWorld, after: int
) -> None:
    ended = _leave(hostile, "quick", after=after)
    record = hostile.upstream.last("quick")
    eventually(lambda: record.disconnected, what="the upstream notices")
    assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "gateway_count")
    assert ended["usage"]["output_tokens"] == record.tokens_written


def test_an_upstream_that_notices_no_half_closed_connection_is_cut_off(hostile: HostileWorld) -> None:
    ended = _leave(hostile, "deaf", after=3)
    record = hostile.upstream.last("deaf")
    eventually(lambda: record.disconnected, what="the connection is cut")
    assert ended["outcome"] == "cancelled"
    assert 3 <= ended["usage"]["output_tokens"] <= record.tokens_written < len(WORDS) * 5_000


@pytest.mark.parametrize("name", ["nan", "index-null", "reasoning", "plain-type"])
def test_text_in_odd_places_is_billed_when_it_is_cancelled(hostile: HostileWorld, name: str) -> None:
    ended = _leave(hostile, name)
    assert (ended["outcome"], ended["usage"]["output_tokens"]) == ("cancelled", TOKENS)
    assert ended["usage"]["input_tokens"] == PROMPT


def test_an_audio_answer_is_estimated_by_its_transcript(hostile: HostileWorld) -> None:
    ended = _leave(hostile, "audio")
    assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "estimate")
    assert ended["usage"] == counted()


def test_input_and_cache_of_an_early_usage_count_with_the_gateways_output(hostile: HostileWorld) -> None:
    ended = _leave(hostile, "early-usage", after=6)
    assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "gateway_count")
    assert ended["usage"] == counted(6, cache_read_input_tokens=8)


def test_a_running_usage_is_believed_when_the_client_leaves(hostile: HostileWorld) -> None:
    ended = _leave(hostile, "running-usage")
    assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "provider")
    assert ended["usage"] == counted(TOKENS + 6)


@pytest.mark.parametrize("name", ["late-usage", "late-usage-after-done"])
def test_the_usage_is_waited_for_when_the_client_leaves_at_the_finish_reason(
    hostile: HostileWorld, name: str
) -> None:
    ended = _leave(hostile, name, at_finish=True)
    assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
    assert ended["usage"] == counted(520, reasoning_output_tokens=500)


def test_cached_input_is_not_overcharged_when_the_client_leaves_at_the_finish_reason(
    hostile: HostileWorld,
) -> None:
    ended = _leave(hostile, "late-usage-cached", at_finish=True)
    assert ended["usage"] == counted(20, cache_read_input_tokens=8)


def test_the_wait_for_the_usage_is_short(hostile: HostileWorld) -> None:
    began = time.monotonic()
    ended = _leave(hostile, "no-usage-ever", at_finish=True)
    assert 1.0 <= time.monotonic() - began < 20
    assert (ended["outcome"], ended["usage_source"], ended["usage"]) == ("cancelled", "gateway_count", counted())


@pytest.mark.parametrize("name", ["before-head", "before-first", "json"])
def test_a_client_that_leaves_before_any_output_pays_nothing(hostile: HostileWorld, name: str) -> None:
    with socket.create_connection(("127.0.0.1", int(hostile.url.rpartition(":")[2]))) as connection:
        stream = b"false" if name == "json" else b"true"
        body = b'{"model":"gpt-4o:%s","stream":%s,"messages":[]}' % (name.encode(), stream)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n" % KEY.encode()
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        eventually(lambda: name in hostile.upstream.records, what="the upstream is asked")
        if name == "before-first":
            assert connection.recv(65_536)
    record = hostile.upstream.last(name)
    eventually(lambda: record.disconnected, what="the upstream notices")
    ends = [event for event in list(hostile.sink.events.values()) if event["type"] == "stream-end"]
    assert all("usage" not in end["data"] or end["data"]["usage"] for end in ends)


def test_an_answer_that_had_arrived_is_billed_in_full(hostile: HostileWorld) -> None:
    """The upstream has written everything at once; the client reads one chunk and leaves."""
    for _ in range(5):
        ended = _leave(hostile, "at-once", after=1)
        assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
        assert ended["usage"] == counted(520, reasoning_output_tokens=500)


def test_the_table_names_each_behaviour_once() -> None:
    assert len({each.name for each in _BEHAVIOURS}) == len(_BEHAVIOURS)


def test_the_stock_client_sees_the_error_of_a_refused_request(hostile: HostileWorld) -> None:
    with hostile.client() as client, pytest.raises(openai.BadRequestError, match="ambiguous"):
        client.chat.completions.create(model="gpt-4o:slow", messages=MESSAGES, extra_body={"Model": "o3"})
