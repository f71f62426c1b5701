"""A completion that stops early is metered for what the upstream delivered, and the upstream is told to stop."""

import asyncio
import threading
import time
from typing import Any

import httpx2
import openai
import pytest

from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES, scenario, stream
from tests.gateway.world import KEY, World


def _tagged(tag: str, **wanted: object) -> dict[str, str]:
    return {**scenario(**wanted), "x-metering-tags": f"test={tag}"}


def test_a_client_that_cancels_pays_for_what_was_delivered(world: World, client: openai.OpenAI) -> None:
    taken = 0
    with client.chat.completions.create(
        model="gpt-5.5-pro", messages=MESSAGES, stream=True, extra_headers=scenario(tokens=2_000)
    ) as answer:
        for chunk in answer:
            taken += sum(bool(choice.delta.content) for choice in chunk.choices)
            if taken == 50:
                break
    ended = world.events(answer.response.headers["x-metering-stream-id"]).ended
    assert (ended["outcome"], ended["usage_source"]) == ("cancelled", "gateway_count")
    eventually(lambda: world.sent()[-1]["disconnected"], what="the upstream notices")
    sent = world.sent()[-1]
    assert 50 <= ended["usage"]["output_tokens"] <= sent["tokens_sent"] + 1
    assert sent["tokens_sent"] < 500
    assert ended["usage"]["input_tokens"] > 0
    stopped_at = sent["tokens_sent"]
    time.sleep(0.1)
    assert world.sent()[-1]["tokens_sent"] == stopped_at


@pytest.mark.parametrize("held_back", ["delay", "first_token_delay"])
def test_a_client_that_leaves_before_the_first_token_pays_nothing(world: World, held_back: str) -> None:
    tag = f"early-{held_back}"
    with world.client(timeout=0.4) as impatient, pytest.raises(openai.APITimeoutError):
        stream(impatient, headers=_tagged(tag, **{held_back: 20}))
    [events] = world.streams_tagged(tag, count=1)
    assert events.ended["outcome"] == "cancelled"
    assert "usage" not in events.ended
    assert events.delivered == []
    eventually(lambda: world.sent()[-1]["disconnected"], what="the upstream notices")
    assert world.sent()[-1]["tokens_sent"] == 0


def test_a_client_that_leaves_a_completion_that_is_not_streamed_stops_the_upstream(world: World) -> None:
    with world.client(timeout=0.4) as impatient, pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(
            model="claude-opus-4.7", messages=MESSAGES, extra_headers=_tagged("whole", delay=20)
        )
    [events] = world.streams_tagged("whole", count=1)
    assert events.ended["outcome"] == "cancelled"
    assert "usage" not in events.ended
    eventually(lambda: world.sent()[-1]["disconnected"], what="the upstream notices")


def test_a_retry_of_the_sdk_is_a_second_stream_with_the_same_hash(world: World) -> None:
    with world.client(max_retries=2) as client:
        answer = stream(client, headers=_tagged("retry", tokens=30, drop_first=1), seed=1)
    assert len(answer.text) > 50
    first, second = world.streams_tagged("retry", count=2)
    assert (first.ended["outcome"], first.ended["error_type"]) == ("failed", "upstream_disconnected")
    assert "usage" not in first.ended
    assert (second.ended["outcome"], second.ended["usage"]["output_tokens"]) == ("completed", 30)
    assert first.began["request_hash"] == second.began["request_hash"]
    assert first.began["stream_id"] != second.began["stream_id"]


def test_an_upstream_that_breaks_off_is_billed_for_what_it_delivered(world: World, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="connection to the upstream broke"):
        stream(client, headers=_tagged("broken", tokens=100, drop_after=40), model="gpt-5.5-pro")
    [events] = world.streams_tagged("broken", count=1)
    ended = events.ended
    assert (ended["outcome"], ended["error_type"]) == ("failed", "upstream_disconnected")
    assert ended["usage_source"] == "gateway_count"
    assert abs(ended["usage"]["output_tokens"] - 40) <= 1


def test_an_error_object_within_the_stream_reaches_the_client(world: World, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="The scenario asks for this error"):
        stream(client, headers=_tagged("in-stream", error_after=20), model="gpt-5.5-pro")
    [events] = world.streams_tagged("in-stream", count=1)
    assert (events.ended["outcome"], events.ended["error_type"]) == ("failed", "overloaded")
    assert abs(events.ended["usage"]["output_tokens"] - 20) <= 1


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError)])
def test_an_error_of_the_upstream_is_passed_on_and_billed_nothing(
    world: World, client: openai.OpenAI, status: int, error: Any, streaming: bool
) -> None:
    tag = f"error-{status}-{streaming}"
    with pytest.raises(error, match="The scenario asks for this error") as caught:
        client.chat.completions.create(
            model="claude-opus-4.7",
            messages=MESSAGES,
            stream=streaming,
            extra_headers=_tagged(tag, status=status),
        )
    assert caught.value.code == f"demo_{status}"
    assert caught.value.response.headers["x-demo-upstream"] == "1"
    [events] = world.streams_tagged(tag, count=1)
    assert (events.ended["outcome"], events.ended["error_type"]) == ("failed", f"demo_{status}")
    assert "usage" not in events.ended


def test_a_silent_upstream_times_out_before_the_first_token(world: World, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        stream(client, model="slow-1", headers=_tagged("silent", delay=10))
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    [events] = world.streams_tagged("silent", count=1)
    assert (events.ended["outcome"], events.ended["error_type"]) == ("timed_out", "upstream_timeout")
    assert "usage" not in events.ended


def test_an_upstream_that_falls_silent_times_out_with_what_it_delivered(
    world: World, client: openai.OpenAI
) -> None:
    with pytest.raises(openai.APIError, match="did not answer in time"):
        stream(client, model="slow-1", headers=_tagged("stalled", stall_after=25))
    [events] = world.streams_tagged("stalled", count=1)
    assert events.ended["outcome"] == "timed_out"
    assert abs(events.ended["usage"]["output_tokens"] - 25) <= 1


def test_an_upstream_that_cannot_be_reached_is_a_bad_gateway(world: World, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        stream(client, model="unreachable", headers=_tagged("unreachable"))
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")
    [events] = world.streams_tagged("unreachable", count=1)
    assert (events.ended["outcome"], events.ended["error_type"]) == ("failed", "upstream_unreachable")


def test_a_client_that_stops_reading_slows_the_upstream_and_stops_it_by_leaving(world: World) -> None:
    body = {"model": "odd-flood", "messages": MESSAGES, "stream": True}
    headers = {"authorization": f"Bearer {KEY}", **_tagged("lazy")}
    with httpx2.stream("POST", f"{world.gateway_url}/v1/chat/completions", json=body, headers=headers, timeout=60):
        eventually(lambda: world.odd.flooded > 0, what="the upstream begins")
        seen = [-1, world.odd.flooded]
        while seen[-1] != seen[-2]:
            assert seen[-1] < 1_000, "the gateway buffers what nobody takes"
            time.sleep(0.3)
            seen.append(world.odd.flooded)
    assert seen[-1] > 0
    [events] = world.streams_tagged("lazy", count=1)
    assert events.ended["outcome"] == "cancelled"


def test_many_cancelled_at_once_all_end_and_all_stop_upstream(world: World) -> None:
    async def one(client: openai.AsyncOpenAI, chunks: int) -> None:
        async with await client.chat.completions.create(
            model="claude-opus-4.7",
            messages=MESSAGES,
            stream=True,
            extra_headers=_tagged("crowd", tokens=3_000, rate=100),
        ) as answer:
            async for _ in answer:
                chunks -= 1
                if chunks == 0:
                    return

    async def many() -> None:
        async with openai.AsyncOpenAI(base_url=f"{world.gateway_url}/v1", api_key=KEY) as client:
            await asyncio.gather(*(one(client, 3 + number) for number in range(30)))

    asyncio.run(many())
    events = world.streams_tagged("crowd", count=30)
    assert {stream.ended["outcome"] for stream in events} == {"cancelled"}
    eventually(lambda: all(sent["disconnected"] for sent in world.sent()[-30:]), what="all upstream answers stop")
    assert all(stream.ended["usage"]["output_tokens"] < 400 for stream in events)


def test_events_stay_one_start_and_one_end_under_a_storm_of_threads(world: World) -> None:
    """Clients that leave at every moment of a short answer, its last bytes included."""

    def leave_after(seconds: float, tokens: int = 16) -> None:
        with (
            world.client(timeout=30) as client,
            client.chat.completions.create(
                model="claude-opus-4.7",
                messages=MESSAGES,
                stream=True,
                extra_headers=_tagged("storm", tokens=tokens),
            ) as answer,
        ):
            until = time.monotonic() + seconds
            for _ in answer:
                if time.monotonic() > until:
                    return

    # However busy the machine is, one stays to the end and one leaves long before it.
    moments = [*((number * 0.003,) for number in range(24)), (60.0,), (0.0, 2_000)]
    threads = [threading.Thread(target=leave_after, args=moment) for moment in moments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = [stream.ended["outcome"] for stream in world.streams_tagged("storm", count=len(moments))]
    assert len(outcomes) == len(moments)
    assert set(outcomes) == {"completed", "cancelled"}
