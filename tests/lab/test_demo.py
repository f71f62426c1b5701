"""`metering demo`: right when all is right, and not to be fooled when a figure is off."""

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import psutil
import pytest

from metering.lab.demo.checks import Played, Tokens, cents, check_stream, check_total
from metering.lab.demo.scenes import SCENES, Scene, Seen

pytestmark = pytest.mark.long

MARK = f"METERING_TEST_{os.getpid()}"
SCENE = {scene.name: scene for scene in SCENES}


def scene(name: str) -> Scene:
    return SCENE[name]


def stream(**changes: Any) -> dict[str, Any]:
    """The `at-once` scene's stream: 30 in and 48 out of gpt-5.5-pro cost 0.954 cents."""
    return {
        "state": "finalized",
        "outcome": "completed",
        "usage_source": "provider",
        "usage": {"input_tokens": 30, "output_tokens": 48},
        "cost_usd_cents": "0.954",
        "charge": {"lines": [{"usd_cents": "0.09"}, {"usd_cents": "0.864"}]},
        **changes,
    }


PLAYED = Played(
    scene=scene("at-once"),
    seen=Seen(pieces=1, stream_id="x"),
    sent=({"prompt_tokens": 30, "tokens_sent": 48},),
)


def test_the_arithmetic_is_what_a_pencil_says() -> None:
    assert cents(model="claude-opus-4.7", tokens=Tokens(input=812, output=37)) == Fraction("0.4985")
    assert cents(model="claude-opus-4.7", tokens=Tokens(input=30, cached=16, output=120)) == Fraction("0.3078")


def test_a_stream_that_is_right_passes() -> None:
    assert check_stream(played=PLAYED, place=0, stream=stream()).wrong == ()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cost_usd_cents": "0.9540001"}, "cost_usd_cents"),
        ({"cost_usd_cents": None}, "cost_usd_cents"),
        ({"outcome": "cancelled"}, "outcome"),
        ({"state": "ended"}, "state"),
        ({"usage_source": "estimate"}, "usage_source"),
        ({"usage": {"input_tokens": 31, "output_tokens": 48}}, "input_tokens"),
        ({"usage": {"input_tokens": 30, "output_tokens": 47}}, "output_tokens"),
        ({"charge": {"lines": [{"usd_cents": "0.09"}]}}, "lines"),
    ],
)
def test_a_figure_that_is_off_is_found(changes: dict[str, Any], complaint: str) -> None:
    wrong = check_stream(played=PLAYED, place=0, stream=stream(**changes)).wrong
    assert any(complaint in problem for problem in wrong)


def test_a_cancelled_stream_may_have_more_than_the_client_saw_but_not_more_than_was_sent() -> None:
    sent = ({"prompt_tokens": 30, "tokens_sent": 27},)
    played = Played(scene=scene("cancelled"), seen=Seen(pieces=25, stream_id="x"), sent=sent)
    verdicts = {}
    for output in (24, 25, 27, 28):
        cost = str(float(cents(model="gpt-5.5-pro", tokens=Tokens(input=30, output=output))))
        shown = stream(
            outcome="cancelled",
            usage_source="gateway_count",
            usage={"input_tokens": 30, "output_tokens": output},
            cost_usd_cents=cost,
            charge={"lines": [{"usd_cents": cost}]},
        )
        verdicts[output] = not check_stream(played=played, place=0, stream=shown).wrong
    assert verdicts == {24: False, 25: True, 27: True, 28: False}


def test_a_model_without_a_rate_must_not_have_a_cost() -> None:
    played = replace(PLAYED, scene=scene("unknown-model"))
    assert check_stream(played=played, place=0, stream=stream(state="unpriced", cost_usd_cents="0")).wrong
    assert not check_stream(played=played, place=0, stream=stream(state="unpriced", cost_usd_cents=None)).wrong


def test_totals_that_are_not_the_sum_of_the_streams_are_found() -> None:
    rows = [check_stream(played=PLAYED, place=0, stream=stream())]
    right = {"cost_usd_cents": "0.954", "stream_count": 1, "accrued_usd_cents": "0"}
    assert not check_total(rows=rows, total=right)
    for change in ({"cost_usd_cents": "0.955"}, {"stream_count": 2}, {"accrued_usd_cents": "0.1"}):
        assert check_total(rows=rows, total={**right, **change})


def test_the_demo_plays_to_its_end_and_leaves_no_process() -> None:
    played = subprocess.run(
        [sys.executable, "-m", "metering", "demo"],
        env={**os.environ, MARK: MARK},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "every figure is right" in played.stderr
    assert played.stdout.count(" ok") == 9
    for figure in ("$14.58773", "$6.189722", "paid", "deferred", "$0.30 credited", "duplicate_invoice"):
        assert figure in played.stdout
    assert not [process for process in psutil.process_iter() if _is_of_the_demo(process)]


def _is_of_the_demo(process: psutil.Process) -> bool:
    """Every process of the demo inherits its environment, the mark included."""
    try:
        return MARK in process.environ()
    except psutil.Error:
        return False
