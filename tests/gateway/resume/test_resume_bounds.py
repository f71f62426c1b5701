"""How long a completion goes on without its client, how long it is kept, and how much of it."""

import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.emitter.sink import eventually
from tests.gateway.hostile.behaviours import (
    DONE,
    TEXT,
    TOKENS,
    Behaviour,
    Expected,
    Pause,
    Write,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.resume.valkey import RunningValkey, running_valkey
from tests.gateway.resume.world import ResumeWorld, new_key, raw_request, resume_world

pytestmark = pytest.mark.long

_ANY = Expected(usage=None)
_END = [finish(), usage_chunk(openai_usage()), DONE]
_FLOOD = [Write(b": " + b"x" * 65_536 + b"\n\n")] * 200
_BEHAVIOURS = [
    Behaviour("lasts", [*(each for step in words() for each in (step, Pause(0.25))), *_END], _ANY),
    Behaviour("long", [each for step in words() * 200 for each in (step, Pause(0.02))], _ANY),
    Behaviour("good", [*words(), *_END], _ANY),
    Behaviour("flood", [*words(3), *_FLOOD, *words()[3:], *_END], _ANY),
]


class Worlds:
    """Makes a world with bounds of the test's own."""

    def __init__(self, valkey: RunningValkey, spool: Path) -> None:
        self._valkey, self._spool = valkey, spool

    def __call__(self, **bounds: Any) -> AbstractContextManager[ResumeWorld]:
        return resume_world(_BEHAVIOURS, valkey=self._valkey, spool=self._spool, **bounds)


@pytest.fixture
def worlds(valkey: RunningValkey, tmp_path: Path) -> Worlds:
    return Worlds(valkey, tmp_path)


@pytest.fixture
def empty_valkey(tmp_path: Path) -> Iterator[RunningValkey]:
    with running_valkey(tmp_path) as valkey:
        yield valkey


def test_a_completion_to_which_nobody_comes_back_is_cancelled_and_billed_as_written(worlds: Worlds) -> None:
    key = new_key()
    with worlds(window_seconds=1.0) as world:
        began = time.monotonic()
        first = world.ask("long", key, leave_after=3)
        ended = world.events(first.stream_id).ended
        record = world.requests("long")[0]
        eventually(lambda: record.disconnected, what="the upstream notices")
        assert time.monotonic() - began >= 1.0
        assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "gateway_count")
        assert 3 < ended["usage"]["output_tokens"] == record.tokens_written < TOKENS * 200
        assert world.metric("given_up") == 1
        again = world.ask("long", key, leave_after=3)
        assert (again.resumed, again.resumable) == ("false", "true")
        assert again.stream_id != first.stream_id


def test_a_completion_goes_on_as_long_as_a_client_that_came_back_reads(worlds: Worlds) -> None:
    """The answer lasts five seconds; without the client that came back it would end after one."""
    key = new_key()
    with worlds(window_seconds=1.0, gateways=2) as world:
        first = world.ask("lasts", key, leave_after=2)
        second = world.ask("lasts", key, gateway=1)
        assert (second.text, second.stream_id) == (TEXT, first.stream_id)
        assert world.events(first.stream_id).ended["outcome"] == "completed"
        assert len(world.requests("lasts")) == 1


def test_an_answer_is_kept_for_some_time_after_its_end(worlds: Worlds, valkey: RunningValkey) -> None:
    key = new_key()
    with worlds(keep_seconds=5.0) as world:
        before = set(valkey.names())
        first = world.ask("good", key)
        [name] = set(valkey.names()) - before
        assert world.ask("good", key).stream_id == first.stream_id
        eventually(lambda: name not in valkey.names(), what="its time is over")
        again = world.ask("good", key)
        assert (again.text, again.resumed) == (TEXT, "false")
        assert again.stream_id != first.stream_id
        assert len(world.requests("good")) == 2


def test_an_answer_that_is_too_large_goes_on_and_is_not_kept(worlds: Worlds, valkey: RunningValkey) -> None:
    key = new_key()
    with worlds(max_bytes=2_000) as world:
        before = set(valkey.names())
        first = world.ask("good", key)
        assert (first.text, first.error) == (TEXT, None)
        assert world.metric("too_large") == 1
        eventually(lambda: set(valkey.names()) <= before, what="it is deleted")
        assert world.ask("good", key).resumed == "false"
        left = world.ask("long", new_key(), leave_after=60)
        ended = world.events(left.stream_id).ended
        assert (ended["outcome"], ended["usage"]["output_tokens"] < 1_000) == ("cancelled", True)


def test_no_more_answers_are_kept_than_may_be(empty_valkey: RunningValkey, tmp_path: Path) -> None:
    bounds = {"max_streams": 3, "max_streams_per_customer": 2}
    with resume_world(_BEHAVIOURS, valkey=empty_valkey, spool=tmp_path / "spool", **bounds) as world:
        keys = [new_key() for _ in range(3)]
        assert [world.ask("good", key).resumable for key in keys] == ["true", "true", "false"]
        others = [world.ask("good", new_key(), key="gk_other") for _ in range(2)]
        assert [each.resumable for each in others] == ["true", "false"]
        assert [each.text for each in others] == [TEXT, TEXT]
        assert world.metric("full") == 2
        assert [world.ask("good", key).resumed for key in keys] == ["true", "true", "false"]
        assert len(empty_valkey.names()) == 3


def test_room_is_made_when_an_answer_is_not_kept_any_more(empty_valkey: RunningValkey, tmp_path: Path) -> None:
    bounds = {"max_streams": 1, "keep_seconds": 5.0}
    with resume_world(_BEHAVIOURS, valkey=empty_valkey, spool=tmp_path / "spool", **bounds) as world:
        assert world.ask("good", new_key()).resumable == "true"
        assert world.ask("good", new_key()).resumable == "false"
        eventually(lambda: not empty_valkey.names(), what="its time is over")
        eventually(lambda: world.ask("good", new_key()).resumable == "true", what="there is room")


def test_a_client_that_stopped_reading_is_disconnected_and_may_come_back(worlds: Worlds) -> None:
    key = new_key()
    with worlds(stall_seconds=3.0, max_bytes=64 << 20) as world, socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stalled.connect(("127.0.0.1", int(world.urls[0].rpartition(":")[2])))
        stalled.sendall(raw_request("flood", key))
        assert stalled.recv(1_024)
        eventually(lambda: world.requests("flood")[0].finished, what="the answer goes on without it")
        seen = world.ask("flood", key)
        assert (seen.resumed, seen.text) == ("true", TEXT)
        assert world.problem("stalled_client") == 1
        assert world.events(seen.stream_id).ended["outcome"] == "completed"
        assert len(world.requests("flood")) == 1


def test_an_old_connection_that_hangs_does_not_hold_up_the_client_that_came_back(worlds: Worlds) -> None:
    key = new_key()
    with worlds(max_bytes=64 << 20) as world, socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stalled.connect(("127.0.0.1", int(world.urls[0].rpartition(":")[2])))
        stalled.sendall(raw_request("flood", key))
        assert stalled.recv(1_024)
        began = time.monotonic()
        seen = world.ask("flood", key)
        assert (seen.resumed, seen.text) == ("true", TEXT)
        assert world.problem("stalled_client") == 1
        assert time.monotonic() - began < 45, "it has not waited for the deadline of the old connection"


def test_a_client_that_came_back_and_stopped_reading_is_disconnected(worlds: Worlds) -> None:
    key = new_key()
    with worlds(stall_seconds=3.0, max_bytes=64 << 20) as world:
        first = world.ask("flood", key)
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            stalled.connect(("127.0.0.1", int(world.urls[0].rpartition(":")[2])))
            stalled.sendall(raw_request("flood", key))
            assert stalled.recv(1_024)
            eventually(lambda: world.problem("stalled_client") == 1, what="it is disconnected")
        assert world.ask("flood", key).stream_id == first.stream_id
