"""The Node emitter reads the answers of upstreams as the Python one does: each gives the same figures."""

import json
import random
from pathlib import Path
from typing import Any

from metering.answers.tokens import LengthCounter
from metering.answers.usage import Amount, counters, usage_parts
from metering.answers.usage_names import COUNTS, MODALITY_LISTS, SECONDS, USD, USD_TICKS
from metering.emitter.identity import StreamIdentity
from metering.emitter.meter import Output, StreamMeter
from metering.events.events import Outcome, StreamEnd, UsageEvent
from tests.deploy.typescript_client import Package

_PROVIDERS = ("openai", "anthropic", "google", "x-ai", "perplexity", "deepseek", "aws")
_PATHS = [path for paths in (*COUNTS.values(), *SECONDS.values()) for path in paths]
_VALUES = (0, 1, 7, 40, 128, 1500, 40.0, "40", "12.5", 1.0005, -3, None, True, "x", 2**53, 1e-7)


def _usage_object(draw: random.Random) -> dict[str, Any]:
    """A usage object with some of the names that upstreams use."""
    usage: dict[str, Any] = {}
    for path in draw.sample([*_PATHS, *sorted(USD), *sorted(USD_TICKS)], draw.randint(1, 8)):
        group = usage
        for name in path[:-1]:
            if not isinstance(group.setdefault(name, {}), dict):
                group[name] = {}
            group = group[name]
        group[path[-1]] = draw.choice(_VALUES)
    if draw.random() < 0.2:
        usage[draw.choice(sorted(MODALITY_LISTS))] = [{"modality": "audio", "tokenCount": 7}, {"modality": "TEXT"}]
    return usage


def _plain(amount: Amount) -> str:
    return str(amount) if isinstance(amount, int) else f"{amount:f}"


def test_usage_is_read_as_the_reference_gateway_reads_it(package: Package, tmp_path: Path) -> None:
    draw = random.Random(18)
    cases = [{"provider": draw.choice(_PROVIDERS), "usage": _usage_object(draw)} for _ in range(3_000)]
    given = tmp_path / "cases.json"
    given.write_text(json.dumps(cases))
    body = """
import { readFileSync } from "node:fs";
import { counters, usageParts } from "./dist/answers/usage.js";
import { WIRE_NAMES } from "./dist/usage.js";
for (const { provider, usage } of JSON.parse(readFileSync(process.env.CASES, "utf8"))) {
  const read = counters(usageParts({ usage }), provider);
  const wire = Object.entries(read.usage).map(([name, count]) => [WIRE_NAMES[name], String(count)]);
  if (read.upstreamCostUsd !== undefined) wire.push(["upstream_cost_usd", read.upstreamCostUsd]);
  console.log(JSON.stringify(Object.fromEntries(wire)));
}
"""
    with package.running(body, prelude="", CASES=str(given)) as process:
        found = [process.hear() for _ in cases]
    for case, read in zip(cases, found, strict=True):
        expected = counters(usage_parts(case), provider=case["provider"])
        assert read == {name: _plain(amount) for name, amount in expected.items()}, case


_WORDS = ("Hello", " harbour", " büro", " 日本語", "\n\n", " a", "x" * 900, " ", "", "😀")


def _chat(draw: random.Random) -> dict[str, Any]:
    field = draw.choice(("content", "reasoning_content", "refusal", "reasoning", "thinking_id"))
    delta: dict[str, Any] = {field: draw.choice(_WORDS)}
    if draw.random() < 0.2:
        called = {"name": "count", "arguments": draw.choice(('{"a":', {"a": 1}, None))}
        delta["tool_calls"] = [{"index": draw.choice((0, 1, None)), "function": called}]
    if draw.random() < 0.2:
        delta["content"] = [{"type": "text", "text": "part"}, {"type": "thinking", "thinking": "hm"}]
    choice = {"index": draw.choice((0, 0, 1)), "finish_reason": draw.choice((None, None, "stop"))}
    place = draw.choice(("delta", "delta", "message"))
    return {"id": "c1", "model": "m", "choices": [{**choice, place: delta}]}


def _message(draw: random.Random) -> dict[str, Any]:
    delta = draw.choice(({"text": draw.choice(_WORDS)}, {"thinking": "hm"}, {"partial_json": "{"}))
    block = {"type": "tool_use", "name": "count", "input": {"a": 1}}
    return draw.choice(
        (
            {"type": "content_block_delta", "index": draw.randint(0, 2), "delta": delta},
            {"type": "content_block_start", "index": 3, "content_block": block},
            {"type": "message_start", "message": {"id": "msg", "model": "c", "usage": {"input_tokens": 9}}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
            {"type": "message", "id": "msg2", "content": [{"type": "text", "text": "whole"}, block]},
            {"type": "ping"},
        )
    )


def _response(draw: random.Random) -> dict[str, Any]:
    text = draw.choice(_WORDS)
    output = [{"type": "message", "content": [{"text": text}]}, {"type": "reasoning", "summary": [{"text": "hm"}]}]
    whole = {"id": "r", "model": "g", "status": draw.choice(("completed", "incomplete")), "output": output}
    return draw.choice(
        (
            {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text},
            {"type": "response.reasoning_text.delta", "output_index": 1, "delta": text},
            {"type": "response.output_item.added", "output_index": 2, "item": {"name": "count"}},
            {"type": "response.completed", "response": whole},
            {"type": "response.audio.delta", "delta": "AAAA"},
            {"object": "response", **whole, "incomplete_details": {"reason": "max_output_tokens"}},
        )
    )


def _documents(draw: random.Random) -> list[dict[str, Any]]:
    kind = draw.choice((_chat, _message, _response))
    documents = [kind(draw) for _ in range(draw.randint(0, 12))]
    if draw.random() < 0.4:
        usage = {"prompt_tokens": draw.choice((0, 9)), "completion_tokens": draw.choice((0, 5, 400))}
        documents.insert(draw.randint(0, len(documents)), {"choices": [], "usage": usage})
    return documents


def _ended(case: dict[str, Any]) -> dict[str, Any]:
    """The attributes of the stream-end that the Python meter makes."""
    events: list[UsageEvent] = []
    identity = StreamIdentity(
        customer_id="acme",
        stream_id="s",
        provider="openai",
        model="m",
        streaming=True,
        input_tokens=case["input"],
        input_exact=True,
        tags={},
    )
    meter = StreamMeter(identity=identity, counter=LengthCounter(), emit=events.append, output=Output.UNTOLD)
    for document in case["documents"]:
        meter.take(document)
    meter.end(outcome=Outcome(case["outcome"]))
    assert isinstance(events[-1], StreamEnd)
    return dict(events[-1].attributes())


def test_answers_are_counted_as_the_python_emitter_counts_them(package: Package, tmp_path: Path) -> None:
    draw = random.Random(7)
    cases = [
        {
            "input": draw.choice((None, 12)),
            "outcome": draw.choice(("completed", "cancelled", "failed")),
            "documents": _documents(draw),
        }
        for _ in range(2_000)
    ]
    given = tmp_path / "cases.json"
    given.write_text(json.dumps(cases))
    body = """
import { readFileSync } from "node:fs";
import { estimateTokens } from "./dist/answers/outputCount.js";
import { encodeEvent } from "./dist/cloudevents.js";
import { StreamMeter } from "./dist/meter.js";
for (const { input, outcome, documents } of JSON.parse(readFileSync(process.env.CASES, "utf8"))) {
  const events = [];
  const asked = { customerId: "acme", streamId: "s", provider: "openai", model: "m" };
  const counter = { count: estimateTokens, source: () => "estimate" };
  const known = input === null ? asked : { ...asked, inputTokens: input };
  const meter = new StreamMeter(known, counter, (event) => events.push(event));
  for (const document of documents) meter.take(document);
  meter.end({ outcome });
  const { stream_id, ...data } = JSON.parse(encodeEvent(events.at(-1), "/g")).data;
  console.log(JSON.stringify(data));
}
"""
    with package.running(body, prelude="", CASES=str(given)) as process:
        found = [process.hear() for _ in cases]
    for case, read in zip(cases, found, strict=True):
        assert read == _ended(case), case
