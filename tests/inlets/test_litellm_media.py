"""A real LiteLLM proxy that makes images, speech and transcripts: what is metered, and what cannot be."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.hostile.behaviours import Behaviour, Write
from tests.inlets.litellm_endpoints import ANY
from tests.inlets.litellm_proxy import KEY, LiteLLMWorld, litellm_world

pytestmark = pytest.mark.long

_IMAGE_USAGE = {
    "input_tokens": 50,
    "output_tokens": 1_056,
    "total_tokens": 1_106,
    "input_tokens_details": {"text_tokens": 40, "image_tokens": 10},
}
_IMAGE = {"created": 1, "data": [{"b64_json": "aGk="}]}
_AUDIO_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 45,
    "total_tokens": 59,
}


def _whole(name: str, document: Any, *, status: int = 200) -> Behaviour:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    kind = "audio/mpeg" if isinstance(document, bytes) else "application/json"
    return Behaviour(name, [Write(body)], ANY, content_type=kind, framing="length", status=status)


_BEHAVIOURS = [
    _whole("image", {**_IMAGE, "usage": _IMAGE_USAGE}),
    _whole("image-silent", _IMAGE),
    _whole("image-odd", {**_IMAGE, "usage": {"input_tokens": "many", "output_tokens": -5}}),
    _whole("image-refused", {"error": {"message": "no"}}, status=500),
    _whole("speech", b"ID3" + bytes(2_000)),
    _whole("transcript", {"text": "Ledgers, kept by hand.", "usage": _AUDIO_USAGE}),
    _whole("transcript-seconds", {"text": "Ledgers.", "usage": {"type": "duration", "seconds": 12}}),
    _whole("transcript-silent", {"text": "Ledgers, kept by hand."}),
]


@pytest.fixture(scope="module")
def proxy(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLMWorld]:
    folder = tmp_path_factory.mktemp("litellm")
    with litellm_world(litellm_python, _BEHAVIOURS, folder) as world:
        yield world


def _post(world: LiteLLMWorld, path: str, model: str, payer: str, **body: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {KEY}", "x-litellm-end-user-id": payer}
    asked = {"model": f"openai/gpt-4o:{model}", **body}
    if path == "/v1/audio/transcriptions":
        given = {"file": ("a.wav", b"RIFF" + bytes(64), "audio/wav")}
        return httpx2.post(f"{world.url}{path}", data=asked, files=given, headers=headers, timeout=60)
    return httpx2.post(f"{world.url}{path}", json=asked, headers=headers, timeout=60)


_IMAGES, _SPEECH, _TRANSCRIPTS = "/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions"
_ASKED: dict[str, dict[str, Any]] = {
    _IMAGES: {"prompt": "A harbour.", "n": 1},
    _SPEECH: {"input": "How did the harbour master keep his books?", "voice": "alloy"},
    _TRANSCRIPTS: {},
}


@pytest.mark.parametrize(
    ("path", "model", "usage", "source"),
    [
        (_IMAGES, "image", {"input_tokens": 50, "output_tokens": 1_056, "input_image_tokens": 10}, "provider"),
        (_IMAGES, "image-silent", {"input_tokens": 3}, "gateway_count"),
        (_SPEECH, "speech", {"input_tokens": 9, "input_characters": 42}, "gateway_count"),
        (
            _TRANSCRIPTS,
            "transcript",
            {"input_tokens": 14, "output_tokens": 45, "input_audio_tokens": 10},
            "provider",
        ),
        (_TRANSCRIPTS, "transcript-seconds", {"audio_seconds": "12"}, "provider"),
        (_TRANSCRIPTS, "transcript-silent", None, None),
    ],
)
def test_what_the_upstream_reports_is_metered_and_a_file_is_no_text(
    proxy: LiteLLMWorld, path: str, model: str, usage: dict[str, Any] | None, source: str | None
) -> None:
    answer = _post(proxy, path, model, f"c-{model}", **_ASKED[path])
    assert answer.status_code == 200, answer.text
    [stream] = proxy.streams_of(f"c-{model}")
    operation = {_IMAGES: "image_generation", _SPEECH: "speech", _TRANSCRIPTS: "transcription"}[path]
    assert (stream.began["operation"], stream.ended["outcome"]) == (operation, "completed")
    assert (stream.ended.get("usage"), stream.ended.get("usage_source")) == (usage, source)


@pytest.mark.parametrize("model", ["image-odd", "image-refused"])
def test_an_image_that_the_client_does_not_get_costs_nothing(proxy: LiteLLMWorld, model: str) -> None:
    assert _post(proxy, _IMAGES, model, f"c-{model}", **_ASKED[_IMAGES]).status_code == 500
    [stream] = proxy.streams_of(f"c-{model}")
    assert stream.ended["outcome"] == "failed"
    assert "usage" not in stream.ended
