"""A real LiteLLM proxy between a client and an upstream that speak over a WebSocket: a session is a stream."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emitter.sink import free_port
from tests.inlets.litellm_proxy import KEY, LiteLLMWorld, litellm_world

pytestmark = pytest.mark.long

_PEERS = Path(__file__).with_name("realtime_peers.py")
# Of the upstream's first three responses, summed.
_FIRST = {
    "input_tokens": 132,
    "output_tokens": 121,
    "cache_read_input_tokens": 64,
    "cache_read_input_audio_tokens": 10,
    "input_audio_tokens": 13,
    "output_audio_tokens": 91,
}
_ALL = {**_FIRST, "input_tokens": 177, "output_tokens": 143, "input_audio_tokens": 18}


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    port = free_port()
    given = {"model": "openai/gpt-realtime", "api_base": f"http://127.0.0.1:{port}", "api_key": "sk-upstream"}
    config = {
        "model_list": [{"model_name": "voice", "litellm_params": given}],
        "litellm_settings": {"callbacks": ["metering.inlets.litellm.proxy_logger"]},
    }
    command = [str(litellm_python), str(_PEERS), "serve", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as upstream:
        assert upstream.stdout is not None
        assert upstream.stdout.readline() == b"serving\n"
        with litellm_world(litellm_python, [], tmp_path_factory.mktemp("litellm"), config=config) as world:
            yield world
        upstream.terminate()


def _talk(python: Path, world: LiteLLMWorld, payer: str, turns: str) -> None:
    url = f"{world.url.replace('http', 'ws', 1)}/v1/realtime?model=voice"
    command = [str(python), str(_PEERS), "talk", url, KEY, payer, turns]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("turns", "usage"),
    [
        ("r", _FIRST),
        ("rrr", _ALL),
        ("ttr", _FIRST),
        ("t", {"input_tokens": 0, "output_tokens": 0}),
    ],
)
def test_a_session_is_one_stream_with_the_usage_of_all_its_responses(
    proxy: LiteLLMWorld, litellm_python: Path, turns: str, usage: dict[str, int]
) -> None:
    _talk(litellm_python, proxy, f"c-{turns}", turns)
    [stream] = proxy.streams_of(f"c-{turns}")
    assert (stream.began["provider"], stream.began["model"]) == ("openai", "gpt-realtime")
    assert stream.began["operation"] == "realtime"
    assert "input_tokens" not in stream.began
    assert stream.ended["outcome"] == "completed"
    assert (stream.ended["usage"], stream.ended["usage_source"]) == (usage, "provider")


def test_what_a_client_used_before_it_left_is_billed(proxy: LiteLLMWorld, litellm_python: Path) -> None:
    _talk(litellm_python, proxy, "c-left", "rl")
    [stream] = proxy.streams_of("c-left")
    assert stream.ended["usage"]["input_tokens"] >= _FIRST["input_tokens"]
    assert stream.ended["usage_source"] == "provider"
