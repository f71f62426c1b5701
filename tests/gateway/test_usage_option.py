"""An upstream that refuses `stream_options` is asked once more without, and from then on without at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import DONE, TEXT, Behaviour, Expected, counted, finish, words
from tests.gateway.hostile.running import HostileWorld, hostile_world

_SIMPLE = [*words(), finish(), DONE]
_BEHAVIOURS = [
    Behaviour(f"refuses-{status}", _SIMPLE, Expected(usage=counted()), refuses_usage_option=status)
    for status in (400, 404, 422, 500)
]


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[HostileWorld]:
    with hostile_world(_BEHAVIOURS, tmp_path) as world:
        yield world


def _options(hostile: HostileWorld, name: str) -> list[Any]:
    return [json.loads(record.body).get("stream_options") for record in hostile.upstream.records[name]]


@pytest.mark.parametrize("status", [400, 404, 422])
def test_the_stream_is_asked_for_again_without_and_counted(hostile: HostileWorld, status: int) -> None:
    name = f"refuses-{status}"
    behaviour = next(each for each in _BEHAVIOURS if each.name == name)
    with hostile.client() as client:
        for _ in range(2):
            answered = hostile.ask(client, behaviour)
            assert (answered.text, answered.error) == (TEXT, None)
            ended = hostile.events(answered.stream_id).ended
            assert (ended["outcome"], ended["usage_source"]) == ("completed", "gateway_count")
            assert ended["usage"] == counted()
    assert _options(hostile, name) == [{"include_usage": True}, None, None]


def test_an_option_that_the_client_sent_is_refused_to_the_client(hostile: HostileWorld) -> None:
    with hostile.client() as client, pytest.raises(openai.BadRequestError, match="stream_options"):
        client.chat.completions.create(
            model="gpt-4o:refuses-400", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    assert _options(hostile, "refuses-400") == [{"include_usage": True}]


def test_an_error_of_another_kind_is_no_refusal_of_the_option(hostile: HostileWorld) -> None:
    with hostile.client() as client, pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="gpt-4o:refuses-500", messages=MESSAGES, stream=True)
    assert len(_options(hostile, "refuses-500")) == 1


def test_an_upstream_can_be_configured_to_be_asked_without(tmp_path: Path) -> None:
    with hostile_world(_BEHAVIOURS, tmp_path, include_usage=False) as world, world.client() as client:
        assert world.ask(client, _BEHAVIOURS[0]).text == TEXT
        assert _options(world, "refuses-400") == [None]
