"""A completion that ends well is metered in full, and the stock SDK sees exactly what it asked for."""

import asyncio
from typing import Any

import openai
import pydantic

from metering.lab.demo.upstream_answer import TEXT
from tests.gateway.asking import MESSAGES, scenario, stream
from tests.gateway.world import World

_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "count_crates",
        "parameters": {
            "type": "object",
            "properties": {"quay": {"type": "string"}, "since": {"type": "string"}, "limit": {"type": "integer"}},
        },
    },
}


def test_a_streamed_completion_is_metered_with_the_upstreams_usage(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, headers=scenario(tokens=60), max_tokens=500)
    assert TEXT.startswith(answer.text)
    assert answer.chunks[-1].choices[0].finish_reason == "stop"
    events = world.events(answer.stream_id)
    assert events.start["subject"] == "acme"
    assert events.start["source"] == "/gateways/test"
    began = events.began
    assert (began["provider"], began["model"]) == ("anthropic", "claude-opus-4.7")
    assert (began["streaming"], began["operation"], began["max_output_tokens"]) == (True, "chat", 500)
    assert began["api_key_id"] == "acme-prod"
    ended = events.ended
    assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
    assert ended["usage"]["output_tokens"] == 60
    assert ended["finish_reasons"] == ["stop"]
    assert ended["response_model"] == "claude-opus-4.7"
    assert ended["response_id"] == answer.chunks[0].id
    assert abs(began["input_tokens"] - ended["usage"]["input_tokens"]) <= 2


def test_counters_grow_while_tokens_flow(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, headers=scenario(tokens=160))
    delivered = world.events(answer.stream_id).delivered
    assert len(delivered) >= 3
    counts = [data["output_tokens"] for data in delivered]
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1] <= 160
    assert len({data["seq"] for data in delivered}) == len(delivered)


def test_a_completion_that_is_not_streamed_takes_the_same_path(world: World, client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-5.5-pro",
        messages=MESSAGES,
        max_completion_tokens=25,
        service_tier="default",
        extra_headers=scenario(tokens=60, snapshot="on", cached=4, reasoning=5),
    )
    completion = raw.parse()
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 25
    events = world.events(raw.headers["x-metering-stream-id"])
    assert events.began["streaming"] is False
    assert (events.began["max_output_tokens"], events.began["service_tier"]) == (25, "default")
    ended = events.ended
    assert (ended["outcome"], ended["usage_source"]) == ("completed", "provider")
    assert ended["usage"] == {
        "input_tokens": completion.usage.prompt_tokens,
        "output_tokens": 25,
        "cache_read_input_tokens": 4,
        "reasoning_output_tokens": 5,
    }
    assert ended["response_model"] == "gpt-5.5-pro-2026-11-01"


def test_the_usage_chunk_is_hidden_from_a_client_that_did_not_ask(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, headers=scenario(tokens=20))
    assert all(chunk.usage is None and chunk.choices for chunk in answer.chunks)
    assert world.events(answer.stream_id).ended["usage_source"] == "provider"


def test_the_usage_chunk_reaches_a_client_that_asked(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, headers=scenario(tokens=20), stream_options={"include_usage": True})
    assert answer.chunks[-1].choices == []
    assert answer.chunks[-1].usage.completion_tokens == 20
    assert world.events(answer.stream_id).ended["usage"]["output_tokens"] == 20


def test_without_the_upstreams_usage_the_gateway_counts(world: World, client: openai.OpenAI) -> None:
    for model, source in (("gpt-5.5-pro", "gateway_count"), ("claude-opus-4.7", "estimate")):
        answer = stream(client, model=model, headers=scenario(tokens=90, usage="off", reasoning=10))
        ended = world.events(answer.stream_id).ended
        assert (ended["outcome"], ended["usage_source"]) == ("completed", source)
        assert abs(ended["usage"]["output_tokens"] - 100) <= 1
        assert abs(ended["usage"]["reasoning_output_tokens"] - 10) <= 1


def test_tool_calls_stream_whole_and_their_tokens_count(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, tools=[_TOOL], headers=scenario(usage="off"), model="gpt-5.5-pro")
    calls = [call for chunk in answer.chunks for c in chunk.choices for call in c.delta.tool_calls or ()]
    assert calls[0].function.name == "count_crates"
    arguments = "".join(call.function.arguments for call in calls)
    assert pydantic.TypeAdapter(dict[str, Any]).validate_json(arguments)["limit"] == 42
    ended = world.events(answer.stream_id).ended
    assert ended["finish_reasons"] == ["tool_calls"]
    sent = world.sent()[-1]
    assert abs(ended["usage"]["output_tokens"] - sent["tokens_sent"]) <= 1
    assert sent["tokens_sent"] > 10


def test_structured_output_works_with_the_sdks_helpers(world: World, client: openai.OpenAI) -> None:
    class Tally(pydantic.BaseModel):
        quay: str
        crates: int

    parsed = client.chat.completions.parse(model="gpt-5.5-pro", messages=MESSAGES, response_format=Tally)
    assert parsed.choices[0].message.parsed == Tally(quay="the old harbour", crates=42)
    with client.chat.completions.stream(
        model="gpt-5.5-pro", messages=MESSAGES, response_format=Tally
    ) as streaming:
        final = streaming.get_final_completion()
    assert final.choices[0].message.parsed == Tally(quay="the old harbour", crates=42)
    assert world.sent()[-1]["finished"]


def test_several_choices_are_one_stream(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, n=3, headers=scenario(tokens=20, usage="off"), model="gpt-5.5-pro")
    assert {choice.index for chunk in answer.chunks for choice in chunk.choices} == {0, 1, 2}
    ended = world.events(answer.stream_id).ended
    assert ended["finish_reasons"] == ["stop", "stop", "stop"]
    assert abs(ended["usage"]["output_tokens"] - 60) <= 3


def test_no_prompt_or_answer_leaves_in_an_event(world: World, client: openai.OpenAI) -> None:
    answer = stream(client, headers={**scenario(tokens=60), "x-metering-tags": "team=ink, job=books"})
    events = world.events(answer.stream_id)
    assert events.began["tags"] == {"team": "ink", "job": "books"}
    everything = str([events.start, events.end, events.delivered])
    assert "harbour" not in everything
    assert len(events.began["request_hash"]) == 64


def test_an_async_client_streams_many_at_once(world: World) -> None:
    client = openai.AsyncOpenAI(base_url=f"{world.gateway_url}/v1", api_key="gk_other", max_retries=0)

    async def one() -> str:
        async with await client.chat.completions.create(
            model="claude-opus-4.7", messages=MESSAGES, stream=True, extra_headers=scenario(tokens=40)
        ) as answer:
            assert [chunk async for chunk in answer][-1].choices[0].finish_reason == "stop"
            return answer.response.headers["x-metering-stream-id"]

    async def many() -> list[str]:
        async with client:
            return list(await asyncio.gather(*(one() for _ in range(20))))

    stream_ids = asyncio.run(many())
    assert len(set(stream_ids)) == 20
    for stream_id in stream_ids:
        events = world.events(stream_id)
        assert events.start["subject"] == "globex"
        assert (events.ended["outcome"], events.ended["usage"]["output_tokens"]) == ("completed", 40)
