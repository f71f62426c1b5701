"""A client that lost its connection comes back with its key, and gets the whole answer once, for one charge."""

from collections.abc import Iterator

import pytest

from tests.emitter.sink import eventually
from tests.gateway.hostile.behaviours import (
    DONE,
    TEXT,
    TOKENS,
    Behaviour,
    Expected,
    Pause,
    Step,
    counted,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.resume.valkey import RunningValkey, running_valkey
from tests.gateway.resume.world import ResumeWorld, new_key, resume_world

_ANY = Expected(usage=None)


def _slowly(steps: list[Step], seconds: float = 0.02) -> list[Step]:
    return [each for step in steps for each in (step, Pause(seconds))]


_END = [finish(), usage_chunk(openai_usage()), DONE]
_BEHAVIOURS = [
    Behaviour("slow", [*_slowly(words()), *_END], _ANY),
]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningValkey]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture(scope="module")
def world(valkey: RunningValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResumeWorld]:
    spool = tmp_path_factory.mktemp("spool")
    with resume_world(_BEHAVIOURS, valkey=valkey, spool=spool, gateways=2) as world:
        yield world


@pytest.mark.parametrize("after", range(TOKENS + 1))
def test_a_client_that_drops_at_any_chunk_gets_the_whole_text_once(world: ResumeWorld, after: int) -> None:
    key, asked = new_key(), len(world.requests("slow"))
    first = world.ask("slow", key, leave_after=after)
    second = world.ask("slow", key, gateway=after % 2)
    assert (first.resumed, first.resumable) == ("false", "true")
    assert (second.resumed, second.resumable) == ("true", "true")
    assert (second.text, second.error) == (TEXT, None)
    assert second.stream_id == first.stream_id
    events = world.events(first.stream_id)
    assert (events.ended["outcome"], events.ended["usage"]) == ("completed", counted())
    assert len(world.requests("slow")) == asked + 1
