"""A client that comes back to a stream whose budget ended: the same text and error again, and one charge."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from metering.gateway.resume.settings import ResumeSettings
from tests.gateway.asking import MESSAGES, scenario
from tests.gateway.holds.world import SLIDING, HeldWorld, StartHeld
from tests.gateway.resume.valkey import RunningValkey, running_valkey

pytestmark = pytest.mark.long

LIMIT = 60
RESUME_KEY = {"X-Resume-Key": "a-resume-key-of-a-cut-stream"}


@pytest.fixture
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningValkey]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
def world(start_held: StartHeld, valkey: RunningValkey) -> HeldWorld:
    return start_held(limit=str(LIMIT), holds=SLIDING, resume=ResumeSettings(url=valkey.url, timeout_seconds=10.0))


def read(world: HeldWorld, *, leave_after: int | None = None) -> tuple[str, str | None, Any]:
    """The text of an answer, how it ended, and its headers; a client leaves after so many characters."""
    text = ""
    headers = scenario(tokens=5_000, rate=100) | RESUME_KEY
    with world.openai(max_retries=0) as client:
        answer = client.chat.completions.create(
            model="chat-1", messages=MESSAGES, stream=True, extra_headers=headers
        )
        try:
            for chunk in answer:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
                if leave_after is not None and len(text) >= leave_after:
                    return text, None, answer.response.headers
        except openai.APIError as error:
            return text, error.code, answer.response.headers
    raise AssertionError("the stream was not cut")


def test_it_came_back_before_the_budget_ended(world: HeldWorld) -> None:
    begun, _, first = read(world, leave_after=30)
    whole, code, headers = read(world)
    assert headers["x-metering-resumed"] == "true"
    assert headers["x-metering-stream-id"] == first["x-metering-stream-id"]
    assert (code, whole[: len(begun)]) == ("budget_exhausted", begun)
    assert len(whole) > LIMIT
    check_one_charge(world, headers)


def test_it_comes_back_after_the_budget_ended_as_often_as_it_likes(world: HeldWorld) -> None:
    whole, code, first = read(world)
    assert (code, first["x-metering-resumed"]) == ("budget_exhausted", "false")
    for _ in range(3):
        again, code, headers = read(world)
        assert (again, code, headers["x-metering-resumed"]) == (whole, "budget_exhausted", "true")
    check_one_charge(world, first)


def check_one_charge(world: HeldWorld, headers: Any) -> None:
    [charge] = world.charges(1)
    assert charge["stream_id"] == headers["x-metering-stream-id"]
    assert world.ending(charge["stream_id"]) == ("cancelled", "budget")
    assert world.figures() == (charge["cost_usd_cents"], "0", 0)
