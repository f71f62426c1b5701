"""A table of hostile upstreams: the client sees what they wrote, and what they wrote is billed, once."""

from collections.abc import Iterator

import openai
import pytest

from tests.gateway.hostile import ends, framings, texts, usages
from tests.gateway.hostile.behaviours import Behaviour
from tests.gateway.hostile.running import HostileWorld, hostile_world

_ALL = [*usages.BEHAVIOURS, *texts.BEHAVIOURS, *framings.BEHAVIOURS, *ends.BEHAVIOURS]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileWorld]:
    with hostile_world(_ALL, tmp_path_factory.mktemp("spool")) as world:
        yield world


@pytest.fixture(scope="module")
def client(hostile: HostileWorld) -> Iterator[openai.OpenAI]:
    with hostile.client() as client:
        yield client


@pytest.mark.parametrize("behaviour", _ALL, ids=lambda behaviour: behaviour.name)
def test_what_the_upstream_wrote_is_seen_and_billed_once(
    hostile: HostileWorld, client: openai.OpenAI, behaviour: Behaviour
) -> None:
    expected = behaviour.expected
    answered = hostile.ask(client, behaviour)
    if expected.text is not None:
        assert answered.text == expected.text
    if expected.error is None:
        assert answered.error is None or expected.text is None, answered.error
    else:
        assert expected.error in str(answered.error)
    ended = hostile.events(answered.stream_id).ended
    assert (ended["outcome"], ended.get("error_type")) == (expected.outcome, expected.error_type)
    assert (ended.get("usage"), ended.get("usage_source")) == (expected.usage, expected.source)
    assert len(hostile.upstream.records[behaviour.name]) == 1, "the upstream is asked once"


def test_the_table_is_long() -> None:
    assert len({behaviour.name for behaviour in _ALL}) == len(_ALL) >= 130
