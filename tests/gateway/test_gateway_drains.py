"""An upstream that bills its whole answer anyway is read to its end when the client has left, within bounds."""

import openai
import pytest

from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES, scenario
from tests.gateway.world import StreamEvents, World


def leave_after(client: openai.OpenAI, model: str, *, taken: int, **wanted: object) -> str:
    """Take some tokens of a stream and go away; returns its id."""
    with client.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, extra_headers=scenario(**wanted)
    ) as answer:
        for chunk in answer:
            taken -= sum(bool(choice.delta.content) for choice in chunk.choices)
            if taken <= 0:
                break
    return answer.response.headers["x-metering-stream-id"]


def highest(events: StreamEvents) -> int:
    return max((data["output_tokens"] for data in events.delivered), default=0)


def test_the_usage_at_the_end_is_billed_and_the_delivered_count_is_sent(
    world: World, client: openai.OpenAI
) -> None:
    events = world.events(leave_after(client, "drained-1", taken=20, tokens=300))
    assert (events.ended["outcome"], events.ended["usage_source"]) == ("cancelled", "provider")
    assert events.ended["usage"]["output_tokens"] == 300
    assert highest(events) < 200
    sent = world.sent()[-1]
    assert (sent["tokens_sent"], sent["disconnected"]) == (300, False)


def test_an_answer_that_takes_too_long_is_abandoned_and_billed_as_delivered(
    world: World, client: openai.OpenAI
) -> None:
    events = world.events(leave_after(client, "briefly-drained-1", taken=20, tokens=4_000))
    assert (events.ended["outcome"], events.ended["usage_source"]) == ("cancelled", "estimate")
    eventually(lambda: world.sent()[-1]["disconnected"], what="the upstream notices")
    # At 400 tokens a second, hundreds more came while it was drained, with no client to take them.
    assert 20 <= events.ended["usage"]["output_tokens"] < world.sent()[-1]["tokens_sent"] - 60


def test_an_answer_that_breaks_while_it_is_drained_is_billed_as_delivered(
    world: World, client: openai.OpenAI
) -> None:
    events = world.events(leave_after(client, "drained-1", taken=20, tokens=400, drop_after=200))
    assert (events.ended["outcome"], events.ended["usage_source"]) == ("cancelled", "estimate")
    assert 20 <= events.ended["usage"]["output_tokens"] < 150


def test_an_answer_in_one_piece_is_drained_too(world: World) -> None:
    headers = {**scenario(delay=1.0, tokens=30), "x-metering-tags": "test=drained-whole"}
    with world.client(timeout=0.3) as impatient, pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model="drained-1", messages=MESSAGES, extra_headers=headers)
    [events] = world.streams_tagged("drained-whole", count=1)
    assert (events.ended["outcome"], events.ended["usage_source"]) == ("cancelled", "provider")
    assert events.ended["usage"]["output_tokens"] == 30
