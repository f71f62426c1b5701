"""LiteLLM's SDK, with and without `watch`: each call is a stream with one end."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.emitter.sink import IngestSink, RunningServer
from tests.gateway.hostile.behaviours import (
    DONE,
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
from tests.gateway.hostile.ends import REFUSALS, WHOLES
from tests.gateway.hostile.upstream import HostileUpstream
from tests.gateway.world import StreamEvents
from tests.inlets.litellm_proxy import ROOT

pytestmark = pytest.mark.long

_ANY = Expected(usage=None)
_SLOW: list[Step] = [each for step in words() for each in (step, Pause(0.1))]
_BEHAVIOURS = [
    Behaviour("good", [*words(), finish(), usage_chunk(openai_usage()), DONE], _ANY),
    Behaviour("slow", [*_SLOW, finish(), DONE], _ANY),
    next(each for each in WHOLES if each.name == "whole-good").but(name="json"),
    *(each for each in REFUSALS if each.status == 429),
]


@pytest.fixture(scope="module")
def sink(litellm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> IngestSink:
    """The events of the whole script."""
    sink = IngestSink()
    with RunningServer(sink.app) as server, HostileUpstream(_BEHAVIOURS) as upstream:
        environment = {
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "METERING_LITELLM_URL": server.url,
            "METERING_LITELLM_INGEST_KEY": "mk_test",
            "METERING_LITELLM_SPOOL": str(tmp_path_factory.mktemp("spool")),
            "PYTHONPATH": str(ROOT),
        }
        script = Path(__file__).with_name("use_litellm_sdk.py")
        done = subprocess.run(
            [litellm_python, script, upstream.url],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "not metered" not in done.stderr
    return sink


@pytest.mark.parametrize(
    ("customer", "outcome", "source", "output"),
    [
        ("watched", "completed", "provider", 20),
        ("unwatched", "completed", "estimate", 20),
        ("dropped", "cancelled", None, None),
        ("whole", "completed", "provider", 20),
        ("refused", "failed", None, None),
        ("sync", "completed", "provider", 20),
        ("sync-stream", "completed", "estimate", 20),
        ("sync-refused", "failed", None, None),
    ],
)
def test_a_call_of_the_sdk_is_a_stream(
    sink: IngestSink, customer: str, outcome: str, source: str | None, output: int | None
) -> None:
    stream = StreamEvents([event for event in sink.events.values() if event["subject"] == customer])
    assert (stream.ended["outcome"], stream.ended.get("usage_source")) == (outcome, source)
    assert stream.ended.get("usage") == (None if output is None else counted(output))


def test_a_watched_stream_that_is_left_is_billed_for_what_was_delivered(sink: IngestSink) -> None:
    stream = StreamEvents([event for event in sink.events.values() if event["subject"] == "left"])
    assert (stream.ended["outcome"], stream.ended["usage_source"]) == ("cancelled", "gateway_count")
    assert stream.ended["usage"] == counted(3)
