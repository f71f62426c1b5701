"""A real LiteLLM proxy with keys of several owners: who pays, and the tags of a stream."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    Behaviour,
    Expected,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.inlets.litellm_proxy import LiteLLMWorld, litellm_world

pytestmark = pytest.mark.long

_GOOD = Behaviour("good", [*words(), finish(), usage_chunk(openai_usage()), DONE], Expected(usage=None))


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    folder = tmp_path_factory.mktemp("litellm")
    shutil.copy(Path(__file__).with_name("litellm_keys.py"), folder / "keys.py")
    with litellm_world(
        litellm_python,
        [_GOOD],
        folder,
        general={"custom_auth": "keys.authenticate"},
        METERING_LITELLM_TAGS="model_group,key_alias,team",
        METERING_LITELLM_DEFAULT_CUSTOMER="nobody",
    ) as world:
        yield world


def _ask(world: LiteLLMWorld, key: str, **options: Any) -> None:
    with world.client(api_key=key) as client:
        list(client.chat.completions.create(model="openai/gpt-4o:good", messages=MESSAGES, stream=True, **options))


def test_the_end_user_pays_before_the_team(proxy: LiteLLMWorld) -> None:
    _ask(proxy, "sk-1/alice/red", user="end-user-1")
    _ask(proxy, "sk-1/alice/red", extra_headers={"x-litellm-end-user-id": "end-user-2"})
    for customer in ("end-user-1", "end-user-2"):
        [stream] = proxy.streams_of(customer)
        assert stream.began["api_key_id"] == "alice"
        assert stream.began["tags"] == {"model_group": "openai/gpt-4o:good", "key_alias": "alice", "team": "red"}


def test_without_an_end_user_the_team_pays(proxy: LiteLLMWorld) -> None:
    _ask(proxy, "sk-1/alice/blue")
    [stream] = proxy.streams_of("blue")
    assert stream.ended["outcome"] == "completed"


def test_without_a_team_the_key_pays(proxy: LiteLLMWorld) -> None:
    _ask(proxy, "sk-1/bob")
    [stream] = proxy.streams_of("bob")
    assert stream.began["api_key_id"] == "bob"


def test_tags_of_the_request_are_tags_of_the_stream(proxy: LiteLLMWorld) -> None:
    _ask(proxy, "sk-1/carol", extra_body={"metadata": {"tags": ["job:7", "no value", "team:not this"]}})
    [stream] = proxy.streams_of("carol")
    assert stream.began["tags"]["job"] == "7"
    assert "no value" not in stream.began["tags"]


def test_the_answer_names_its_stream(proxy: LiteLLMWorld) -> None:
    with proxy.client(api_key="sk-1/dave") as client:
        asked = {"model": "openai/gpt-4o:good", "messages": MESSAGES}
        with client.chat.completions.create(**asked, stream=True) as answer:
            list(answer)
    [stream] = proxy.streams_of("dave")
    assert answer.response.headers["x-metering-stream-id"] == stream.began["stream_id"]
