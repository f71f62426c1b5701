"""A stream whose budget has no room for more is cut: the SDKs raise it, and what was delivered is billed once."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from metering.gateway.hold_settings import GatewayHolds
from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES, scenario
from tests.gateway.holds.world import SLIDING, HeldWorld, StartHeld

pytestmark = pytest.mark.long

ENDLESS: Any = {"model": "words-endless", "stream": True}
USER: Any = [{"role": "user", "content": "Tell me of the rings."}]


def cut(world: HeldWorld, *, limit: int) -> dict[str, Any]:
    """The one charge of a stream that was cut."""
    [charge] = world.charges(1)
    assert world.ending(charge["stream_id"]) == ("cancelled", "budget")
    spent, held, count = world.figures()
    assert (held, count) == ("0", 0)
    assert spent == charge["cost_usd_cents"]
    # More than what the last extension had, and at most what was on its way beyond the limit.
    assert limit / 2 <= Decimal(spent) <= limit + 200
    return charge


@pytest.mark.parametrize("limit", [20, 60, 300])
def test_a_chat_is_cut_within_a_slice_of_its_budget(start_held: StartHeld, limit: int) -> None:
    world = start_held(limit=str(limit), holds=SLIDING)
    text = ""
    with world.openai() as client:
        answer = client.chat.completions.create(
            model="chat-1", messages=MESSAGES, stream=True, extra_headers=scenario(tokens=5_000, rate=100)
        )
        with pytest.raises(openai.APIError, match="The budget is exhausted: this answer was cut off") as caught:  # noqa: PT012
            for chunk in answer:
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert caught.value.code == "budget_exhausted"
    assert len(text) > limit
    charge = cut(world, limit=limit)
    assert charge["stream_id"] == answer.response.headers["x-metering-stream-id"]
    eventually(lambda: not world.open_holds(), what="no hold is left")


def _completion(world: HeldWorld) -> Any:
    with world.openai() as client:
        list(client.completions.create(prompt="Hi", **ENDLESS))


def _response(world: HeldWorld) -> Any:
    with world.openai() as client:
        list(client.responses.create(input="Hi", **ENDLESS))


@pytest.mark.parametrize("ask", [_completion, _response])
def test_other_formats_of_openai_are_cut_the_same(start_held: StartHeld, ask: Callable[[HeldWorld], Any]) -> None:
    world = start_held(limit="40", holds=SLIDING)
    with pytest.raises(openai.APIError) as caught:
        ask(world)
    assert caught.value.code == "budget_exhausted"
    cut(world, limit=40)
    assert not world.other.asked[-1].done


def test_a_message_of_anthropic_is_cut_with_a_billing_error(start_held: StartHeld) -> None:
    world = start_held(limit="40", holds=SLIDING)
    with world.anthropic() as client:
        answer = client.messages.create(max_tokens=5_000, messages=USER, **ENDLESS)
        with pytest.raises(anthropic.APIStatusError) as caught:
            list(answer)
    assert (caught.value.type, caught.value.error_code) == ("billing_error", "budget_exhausted")
    cut(world, limit=40)


def test_a_stream_that_ends_within_its_budget_is_not_cut(start_held: StartHeld) -> None:
    world = start_held(limit="105", holds=SLIDING)
    with world.openai() as client:
        headers = scenario(tokens=100, rate=40)
        answer = client.chat.completions.create(
            model="chat-1", messages=MESSAGES, stream=True, max_tokens=100, extra_headers=headers
        )
        assert list(answer)
    [charge] = world.charges(1)
    assert (charge["outcome"], charge["cost_usd_cents"]) == ("completed", "100")
    assert world.figures() == ("100", "0", 0)
    # The hold follows the stream; what its last batch delivers is booked with its end.
    assert sum(Decimal(cents) for _, cents in world.overruns()) <= 40


def test_of_two_streams_at_one_budget_those_with_no_room_left_are_cut(start_held: StartHeld) -> None:
    """A second stream takes what is left; both are cut, and together they stay near the limit."""
    world = start_held(limit="100", holds=SLIDING)
    headers = scenario(tokens=5_000, rate=50)
    with world.openai() as client:
        both = [
            client.chat.completions.create(model="chat-1", messages=MESSAGES, stream=True, extra_headers=headers)
            for _ in range(2)
        ]
        for answer in both:
            with pytest.raises(openai.APIError, match="cut off"):
                list(answer)
    charges = world.charges(2)
    assert {world.ending(each["stream_id"]) for each in charges} == {("cancelled", "budget")}
    assert world.figures()[1:] == ("0", 0)
    assert Decimal(world.figures()[0]) <= 100 + 2 * 100


def test_a_slice_as_large_as_the_answer_never_cuts_it(start_held: StartHeld) -> None:
    holds = GatewayHolds(mode="sliding", slice_output_tokens=1_000, timeout_seconds=20)
    world = start_held(limit="1000", holds=holds)
    with world.openai() as client:
        headers = scenario(tokens=300, rate=200)
        options: Any = {"max_tokens": 300, "extra_headers": headers}
        assert list(client.chat.completions.create(model="chat-1", messages=MESSAGES, stream=True, **options))
    [charge] = world.charges(1)
    assert (charge["outcome"], charge["cost_usd_cents"]) == ("completed", "300")
