"""A client that lost its connection comes back with its key, and gets the whole answer once, for one charge."""

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    PROMPT,
    TEXT,
    TOKENS,
    WORDS,
    Behaviour,
    End,
    Expected,
    Pause,
    Step,
    Write,
    counted,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.resume.valkey import RunningValkey
from tests.gateway.resume.world import ResumeWorld, Seen, new_key, raw_request, resume_world
from tests.gateway.world import KEY

_ANY = Expected(usage=None)
_END = [finish(), usage_chunk(openai_usage()), DONE]


def _slowly(steps: list[Step], seconds: float = 0.02) -> list[Step]:
    return [each for step in steps for each in (step, Pause(seconds))]


_BEHAVIOURS = [
    Behaviour("slow", [*_slowly(words()), *_END], _ANY),
    Behaviour("thinks", [Pause(2), *words(), *_END], _ANY),
    Behaviour("breaks", [*words(10), Pause(0.5), End("fin")], _ANY),
    Behaviour(
        "refuses", [Pause(0.3), Write(b'{"error":{"message":"slow down"}}')], _ANY, status=429, framing="length",
        content_type="application/json",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def world(valkey: RunningValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResumeWorld]:
    spool = tmp_path_factory.mktemp("spool")
    with resume_world(_BEHAVIOURS, valkey=valkey, spool=spool, gateways=2) as world:
        yield world


def _is_whole(seen: Seen, first: Seen) -> None:
    assert (seen.resumed, seen.resumable, seen.stream_id) == ("true", "true", first.stream_id)
    assert (seen.text, seen.error) == (TEXT, None)


def _is_completed_once(world: ResumeWorld, name: str, stream_id: str, *, asked_before: int) -> None:
    events = world.events(stream_id)
    assert (events.ended["outcome"], events.ended["usage_source"]) == ("completed", "provider")
    assert events.ended["usage"] == counted()
    assert len(world.requests(name)) == asked_before + 1


@pytest.mark.parametrize("after", range(TOKENS + 1))
def test_a_client_that_drops_at_any_chunk_gets_the_whole_text_once(world: ResumeWorld, after: int) -> None:
    key, asked = new_key(), len(world.requests("slow"))
    first = world.ask("slow", key, leave_after=after)
    second = world.ask("slow", key, gateway=after % 2)
    assert (first.resumed, first.resumable) == ("false", "true")
    _is_whole(second, first)
    _is_completed_once(world, "slow", first.stream_id, asked_before=asked)


def test_a_whole_answer_is_shown_again_for_no_charge(world: ResumeWorld) -> None:
    key, asked = new_key(), len(world.requests("slow"))
    first = world.ask("slow", key)
    assert (first.text, first.resumed, first.resumable) == (TEXT, "false", "true")
    before = len(world.sink.events)
    for gateway in (0, 1, 0):
        _is_whole(world.ask("slow", key, gateway=gateway), first)
    _is_completed_once(world, "slow", first.stream_id, asked_before=asked)
    starts = [each for each in list(world.sink.events.values())[before:] if each["type"] == "stream-start"]
    assert starts == []


@pytest.mark.parametrize("gateway", [0, 1])
def test_a_client_that_drops_before_the_first_token_gets_the_whole_text_once(
    world: ResumeWorld, gateway: int
) -> None:
    key, asked = new_key(), len(world.requests("thinks"))
    with socket.create_connection(("127.0.0.1", int(world.urls[0].rpartition(":")[2]))) as connection:
        connection.sendall(raw_request("thinks", key))
        eventually(lambda: len(world.requests("thinks")) > asked, what="the upstream is asked")
    second = world.ask("thinks", key, gateway=gateway)
    assert (second.text, second.resumed) == (TEXT, "true")
    _is_completed_once(world, "thinks", second.stream_id, asked_before=asked)


def test_a_client_may_drop_again_and_again_also_within_what_is_shown_again(world: ResumeWorld) -> None:
    key, asked = new_key(), len(world.requests("slow"))
    first = world.ask("slow", key, leave_after=4)
    for after in (2, 7, 0, 11, 3):
        again = world.ask("slow", key, leave_after=after, gateway=after % 2)
        assert (again.stream_id, again.resumed, again.chunks) == (first.stream_id, "true", after)
        assert TEXT.startswith(again.text)
    _is_whole(world.ask("slow", key), first)
    _is_completed_once(world, "slow", first.stream_id, asked_before=asked)


def test_two_clients_with_the_same_key_at_the_same_time_get_one_completion(world: ResumeWorld) -> None:
    key, asked = new_key(), len(world.requests("slow"))
    seen: list[Seen] = []
    threads = [
        threading.Thread(target=lambda gateway=gateway: seen.append(world.ask("slow", key, gateway=gateway)))
        for gateway in (0, 1, 0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.text for each in seen] == [TEXT] * 4
    assert sorted(each.resumed for each in seen) == ["false", "true", "true", "true"]
    assert len({each.stream_id for each in seen}) == 1
    _is_completed_once(world, "slow", seen[0].stream_id, asked_before=asked)


def test_a_storm_of_clients_that_drop_and_come_back(world: ResumeWorld) -> None:
    """Sixty at once, each leaves three times at moments of its own, and comes back to either gateway."""
    asked, chance = len(world.requests("slow")), random.Random(7)

    async def attempt(key: str, leave_after: int | None) -> tuple[str, str]:
        text = ""
        options: dict[str, Any] = {"messages": MESSAGES, "stream": True, "extra_headers": {"X-Resume-Key": key}}
        url = chance.choice(world.urls)
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60) as client,
            await client.chat.completions.create(model="gpt-4o:slow", **options) as answer,
        ):
            async for chunk in answer:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
                if leave_after is not None and text.count(" ") >= leave_after:
                    break
        return answer.response.headers["x-metering-stream-id"], text

    async def one() -> str:
        key = new_key()
        for _ in range(3):
            await attempt(key, chance.randrange(1, TOKENS))
        stream_id, text = await attempt(key, None)
        assert text == TEXT
        return stream_id

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(60)))

    stream_ids = asyncio.run(all_of_them())
    assert len(set(stream_ids)) == 60
    assert len(world.requests("slow")) == asked + 60
    assert {world.events(each).ended["outcome"] for each in stream_ids} == {"completed"}


def test_the_retry_of_the_stock_client_is_a_resume(world: ResumeWorld) -> None:
    """It gives up before the first token, and repeats its request by itself."""
    key, asked = new_key(), len(world.requests("thinks"))
    options: dict[str, Any] = {"messages": MESSAGES, "stream": True, "extra_headers": {"X-Resume-Key": key}}
    with world.client(max_retries=5, timeout=1.5) as client:
        answer = client.chat.completions.create(model="gpt-4o:thinks", **options)
        text = "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices)
    assert (text, answer.response.headers["x-metering-resumed"]) == (TEXT, "true")
    _is_completed_once(world, "thinks", answer.response.headers["x-metering-stream-id"], asked_before=asked)


def test_the_usage_chunk_is_shown_again_to_a_client_that_asked_for_it(world: ResumeWorld) -> None:
    key = new_key()
    options: dict[str, Any] = {"stream_options": {"include_usage": True}, "messages": MESSAGES, "stream": True}
    options["extra_headers"] = {"X-Resume-Key": key}
    usages = []
    with world.client() as client:
        for _ in range(2):
            chunks = list(client.chat.completions.create(model="gpt-4o:slow", **options))
            usages.append(chunks[-1].usage)
    assert usages[0] == usages[1]
    assert usages[0] is not None
    assert (usages[0].prompt_tokens, usages[0].completion_tokens) == (PROMPT, TOKENS)


def test_another_customer_with_the_same_key_gets_a_completion_of_its_own(world: ResumeWorld) -> None:
    key = new_key()
    mine = world.ask("slow", key, leave_after=3)
    other = world.ask("slow", key, key="gk_other")
    assert (other.resumed, other.text) == ("false", TEXT)
    assert other.stream_id != mine.stream_id
    assert world.events(other.stream_id).start["subject"] == "globex"
    _is_whole(world.ask("slow", key), mine)


def test_a_key_belongs_to_one_request(world: ResumeWorld) -> None:
    key, conflicts = new_key(), world.metric("conflict")
    first = world.ask("slow", key, leave_after=3)
    other = world.ask("slow", key, temperature=0.5)
    assert isinstance(other.error, openai.UnprocessableEntityError)
    assert other.error.code == "resume_key_reused"
    assert "use a new key" in str(other.error)
    with world.client() as client, pytest.raises(openai.UnprocessableEntityError):
        client.completions.create(
            model="gpt-4o:slow", prompt="x", stream=True, extra_headers={"X-Resume-Key": key}
        )
    assert world.metric("conflict") == conflicts + 2
    _is_whole(world.ask("slow", key), first)


@pytest.mark.parametrize("key", ["", "too-short", "x" * 257])
def test_a_key_that_could_be_guessed_is_refused(world: ResumeWorld, key: str) -> None:
    seen = world.ask("slow", key)
    assert isinstance(seen.error, openai.BadRequestError)
    assert seen.error.code == "invalid_resume_key"
    assert "16 to 256 characters" in str(seen.error)


def test_without_a_key_nothing_is_kept_and_nothing_is_said(world: ResumeWorld, valkey: RunningValkey) -> None:
    before = set(valkey.names())
    seen = world.ask("slow", None, leave_after=3)
    assert (seen.resumed, seen.resumable) == ("", "")
    assert world.events(seen.stream_id).ended["outcome"] == "cancelled"
    assert set(valkey.names()) <= before


def test_a_refusal_of_the_upstream_is_not_kept(world: ResumeWorld) -> None:
    key = new_key()
    for number in (1, 2):
        seen = world.ask("refuses", key)
        assert isinstance(seen.error, openai.RateLimitError)
        assert seen.error.response.headers["x-metering-resumable"] == "false"
        assert len(world.requests("refuses")) == number


def test_who_waits_for_an_answer_that_is_refused_asks_the_upstream_itself(world: ResumeWorld) -> None:
    key, asked = new_key(), len(world.requests("refuses"))
    with socket.create_connection(("127.0.0.1", int(world.urls[0].rpartition(":")[2]))) as connection:
        connection.sendall(raw_request("refuses", key))
        eventually(lambda: len(world.requests("refuses")) > asked, what="the upstream is asked")
        seen = world.ask("refuses", key, gateway=1)
    assert isinstance(seen.error, openai.RateLimitError)
    assert seen.error.response.headers["x-metering-resumed"] == "false"
    assert len(world.requests("refuses")) == asked + 2


@pytest.mark.parametrize("after", [None, 5])
def test_an_answer_that_failed_is_shown_again_with_its_error(world: ResumeWorld, after: int | None) -> None:
    key, asked = new_key(), len(world.requests("breaks"))
    first = world.ask("breaks", key, leave_after=after)
    second = world.ask("breaks", key, gateway=1)
    assert (second.stream_id, second.text) == (first.stream_id, "".join(WORDS[:10]))
    assert "connection to the upstream broke" in str(second.error)
    ended = world.events(first.stream_id).ended
    assert (ended["outcome"], ended["usage"]) == ("failed", counted(10))
    assert len(world.requests("breaks")) == asked + 1


def test_what_is_in_valkey_cannot_be_read(world: ResumeWorld, valkey: RunningValkey) -> None:
    key = new_key()
    first = world.ask("slow", key, leave_after=10)
    _is_whole(world.ask("slow", key), first)
    found = valkey.everything()
    assert len(found) > len(TEXT)
    hash_ = world.events(first.stream_id).began["request_hash"]
    readable = [key, "a-resume-key", "gk_test", "acme", first.stream_id, hash_, "chatcmpl", "content", "data:"]
    for text in [*readable, *(word for word in WORDS if len(word) > 5)]:
        assert text.encode() not in found, text
        assert text.encode().hex().encode() not in found, text


def test_every_key_in_valkey_has_a_lifetime(world: ResumeWorld, valkey: RunningValkey) -> None:
    world.ask("slow", new_key(), leave_after=3)
    lifetimes = [valkey.redis.pttl(key) for key in valkey.redis.scan_iter()]
    assert -1 not in lifetimes
    assert 250_000 < max(lifetimes) <= 300_000
