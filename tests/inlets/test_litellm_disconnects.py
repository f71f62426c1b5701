"""A real LiteLLM proxy with `cancel_on_disconnect`: it drops what it has asked when its client has left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emitter.sink import eventually
from tests.gateway.hostile.behaviours import Behaviour, Expected, Pause, words
from tests.inlets.litellm_proxy import LiteLLMWorld, litellm_world, post_and_leave

pytestmark = pytest.mark.long

_SILENT = Behaviour("silent", [Pause(60), *words()], Expected(usage=None))


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    folder = tmp_path_factory.mktemp("litellm")
    with litellm_world(litellm_python, [_SILENT], folder, general={"cancel_on_disconnect": True}) as world:
        yield world


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_any_output_pays_nothing(proxy: LiteLLMWorld, stream: bool) -> None:
    payer = f"c-left-{stream}"
    post_and_leave(proxy, "silent", payer, stream=stream)
    [metered] = proxy.streams_of(payer)
    assert metered.began["model"] == "gpt-4o:silent"
    assert metered.ended["outcome"] == "cancelled"
    assert "usage" not in metered.ended
    eventually(lambda: proxy.upstream.last("silent").disconnected, what="the upstream notices")
