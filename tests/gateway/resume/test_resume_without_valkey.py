"""Valkey that is away, hangs or forgets: completions go on as without resume, and nothing is charged wrongly."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.emitter.sink import eventually
from tests.gateway.hostile.behaviours import (
    DONE,
    TEXT,
    Behaviour,
    Expected,
    Pause,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.resume.valkey import RunningValkey, running_valkey
from tests.gateway.resume.world import ResumeWorld, Seen, new_key, resume_world

_ANY = Expected(usage=None)
_END = [finish(), usage_chunk(openai_usage()), DONE]
_BEHAVIOURS = [
    Behaviour("good", [*words(), *_END], _ANY),
    Behaviour("lasts", [*(each for step in words() for each in (step, Pause(0.1))), *_END], _ANY),
    Behaviour("long", [each for step in words() * 400 for each in (step, Pause(0.02))], _ANY),
]


@pytest.fixture
def fragile_valkey(tmp_path: Path) -> Iterator[RunningValkey]:
    with running_valkey(tmp_path) as valkey:
        yield valkey


@pytest.fixture
def world(fragile_valkey: RunningValkey, tmp_path: Path) -> Iterator[ResumeWorld]:
    """Requests wait for Valkey for one second only."""
    bounds = {"timeout_seconds": 1.0}
    with resume_world(_BEHAVIOURS, valkey=fragile_valkey, spool=tmp_path / "spool", **bounds) as world:
        yield world


def _is_as_without_resume(seen: Seen) -> None:
    assert (seen.text, seen.error) == (TEXT, None)
    assert (seen.resumed, seen.resumable) == ("false", "false")


def test_a_valkey_that_is_gone_is_noticed_and_said_once(
    world: ResumeWorld, fragile_valkey: RunningValkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "metering.gateway.resume")
    fragile_valkey.kill()
    key = new_key()
    for _ in range(3):
        _is_as_without_resume(world.ask("good", key))
    assert world.metric("unavailable") == 3
    assert world.problem("resume_store") >= 1
    fragile_valkey.start()
    eventually(lambda: world.ask("good", new_key()).resumable == "true", what="answers are kept again")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("metering.gateway.resume")]
    assert [text.partition(":")[0] for text in said] == [
        "answers are not kept for clients that come back",
        "Valkey answers",
    ]


def test_a_valkey_that_hangs_delays_one_request_by_its_timeout_and_the_next_ones_by_nothing(
    world: ResumeWorld, fragile_valkey: RunningValkey
) -> None:
    _is_as_without_resume(_while_paused(fragile_valkey, lambda: world.ask("good", new_key())))
    fragile_valkey.pause()
    took = []
    for _ in range(4):
        began = time.monotonic()
        _is_as_without_resume(world.ask("good", new_key()))
        took.append(time.monotonic() - began)
    # Whichever of them asked Valkey; a busy machine may make any of them slow, but not most.
    assert sum(seconds >= 1.0 for seconds in took) <= 2
    without = world.ask("good", None)
    assert (without.text, without.resumed) == (TEXT, "")
    fragile_valkey.go_on()


def _while_paused(valkey: RunningValkey, act: Any) -> Any:
    valkey.pause()
    try:
        return act()
    finally:
        valkey.go_on()


@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_a_stream_does_not_notice_that_valkey_fails(
    world: ResumeWorld, fragile_valkey: RunningValkey, harm: str
) -> None:
    key, seen = new_key(), Seen()
    with world.client() as client:
        options: dict[str, Any] = {"extra_headers": {"X-Resume-Key": key}, "stream": True}
        answer = client.chat.completions.create(
            model="gpt-4o:lasts", messages=[{"role": "user", "content": "x"}], **options
        )
        longest, last = 0.0, time.monotonic()
        for chunk in answer:
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            seen.text += "".join(choice.delta.content or "" for choice in chunk.choices)
            if seen.text.count(" ") == 5 and harm:
                getattr(fragile_valkey, harm)()
                harm = ""
    assert seen.text == TEXT
    assert longest < 4.0, "no chunk waits for Valkey, which is given up after five seconds"
    stream_id = answer.response.headers["x-metering-stream-id"]
    assert world.events(stream_id).ended["outcome"] == "completed"
    fragile_valkey.go_on()


def test_a_client_that_leaves_after_valkey_has_failed_ends_its_completion(
    world: ResumeWorld, fragile_valkey: RunningValkey
) -> None:
    with world.client() as client:
        options: dict[str, Any] = {"extra_headers": {"X-Resume-Key": new_key()}, "stream": True}
        answer = client.chat.completions.create(
            model="gpt-4o:long", messages=[{"role": "user", "content": "x"}], **options
        )
        next(iter(answer))
        fragile_valkey.kill()
        eventually(lambda: world.metric("unavailable") == 1, what="the copy is lost")
    ended = world.events(answer.response.headers["x-metering-stream-id"]).ended
    assert ended["outcome"] == "cancelled"


def test_a_valkey_that_forgot_everything_makes_the_next_request_a_new_completion(
    world: ResumeWorld, fragile_valkey: RunningValkey
) -> None:
    key = new_key()
    first = world.ask("long", key, leave_after=3)
    fragile_valkey.redis.flushall()
    eventually(lambda: world.metric("evicted") == 1, what="the loss is noticed")
    assert world.events(first.stream_id).ended["outcome"] == "cancelled"
    again = world.ask("good", key)
    assert (again.text, again.resumed, again.resumable) == (TEXT, "false", "true")


def test_a_valkey_without_memory_keeps_nothing_and_breaks_nothing(
    world: ResumeWorld, fragile_valkey: RunningValkey
) -> None:
    key = new_key()
    assert world.ask("good", key).text == world.ask("good", key).text == TEXT
    fragile_valkey.redis.config_set("maxmemory", "1")
    again = world.ask("good", key)
    assert (again.text, again.resumed) == (TEXT, "true"), "what is kept can be read"
    _is_as_without_resume(world.ask("good", new_key()))
    assert world.problem("resume_store") == 1


def test_a_client_that_came_back_is_told_when_valkey_fails(
    world: ResumeWorld, fragile_valkey: RunningValkey
) -> None:
    key = new_key()
    world.ask("long", key, leave_after=3)
    seen: list[Seen] = []
    reader = threading.Thread(target=lambda: seen.append(world.ask("long", key)))
    reader.start()
    eventually(lambda: world.metric("resumed") == 1, what="it reads")
    fragile_valkey.kill()
    reader.join(60)
    assert (TEXT * 400).startswith(seen[0].text)
    assert isinstance(seen[0].error, openai.APIError)
    assert "Try again with the same key" in str(seen[0].error)


def test_what_was_changed_in_valkey_is_never_shown(world: ResumeWorld, fragile_valkey: RunningValkey) -> None:
    key = new_key()
    world.ask("good", key)
    assert world.ask("good", key).resumed == "true", "by now all of it is in Valkey"
    [name] = fragile_valkey.names()
    fragile_valkey.redis.xdel(name, "1-0")
    assert (world.ask("good", key).resumed, world.ask("good", key).resumed) == ("false", "true")
    [name] = fragile_valkey.names()
    entries = fragile_valkey.redis.xrange(name)
    fragile_valkey.redis.delete(name)
    for id_, fields in entries:
        content = fields[b"piece"]
        changed = {**fields, b"piece": content[:-1] + bytes([content[-1] ^ 1])} if id_ == b"2-0" else fields
        fragile_valkey.redis.xadd(name, changed, id_)
    seen = world.ask("good", key)
    assert (seen.text, "lost" in str(seen.error)) == ("", True)
