"""The stock `openai` package for Node works against the gateway unchanged, and what it does is metered."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.emitter.sink import eventually
from tests.gateway.world import KEY, World
from tests.tools import need, openai_module

_PROGRAM = """
const { default: OpenAI, APIError } = await import(process.env.OPENAI_ENTRY);
const client = new OpenAI({ baseURL: process.env.GATEWAY, apiKey: process.env.KEY, maxRetries: 0 });
const retrying = new OpenAI({ baseURL: process.env.GATEWAY, apiKey: process.env.KEY, maxRetries: 2 });
const messages = [{ role: "user", content: "How did the harbour master keep his books?" }];
const asked = { model: "claude-opus-4.7", messages };
const as = (scenario) => ({ headers: { "x-upstream-scenario": scenario } });
const report = {};

async function read(create) {
  const { data, response } = await create.withResponse();
  const seen = { id: response.headers.get("x-metering-stream-id"), text: "", calls: "", chunks: 0, usage: null };
  for await (const chunk of data) {
    seen.chunks += 1;
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    seen.calls += chunk.choices[0]?.delta?.tool_calls?.[0]?.function?.arguments ?? "";
    seen.usage = chunk.usage ?? seen.usage;
  }
  return seen;
}

report.streamed = await read(client.chat.completions.create({ ...asked, stream: true }, as("tokens=40")));
report.usage = await read(client.chat.completions.create(
  { ...asked, stream: true, stream_options: { include_usage: true } }, as("tokens=12")));

const whole = await client.chat.completions.create({ ...asked, max_tokens: 15 }, as("tokens=40")).withResponse();
report.whole = { id: whole.response.headers.get("x-metering-stream-id"), usage: whole.data.usage,
                 reason: whole.data.choices[0].finish_reason };

const parameters = { type: "object", properties: { quay: { type: "string" } } };
report.tools = await read(client.chat.completions.create(
  { ...asked, stream: true, tools: [{ type: "function", function: { name: "count_crates", parameters } }] }));

const { data, response } = await client.chat.completions.create(
  { ...asked, stream: true }, as("tokens=2000")).withResponse();
report.cancelled = { id: response.headers.get("x-metering-stream-id"), taken: 0 };
for await (const chunk of data) {
  if (chunk.choices[0]?.delta?.content && ++report.cancelled.taken === 30) break;
}

report.retried = await read(retrying.chat.completions.create(
  { ...asked, stream: true, seed: 99 }, as("tokens=10, drop_first=1")));

try {
  await read(client.chat.completions.create({ ...asked, stream: true }, as("error_after=5")));
} catch (error) {
  report.broken = { isApiError: error instanceof APIError, message: String(error.message) };
}
try {
  await client.chat.completions.create({ ...asked, model: "llama-unknown" });
} catch (error) {
  report.unknown = { status: error.status, code: error.code };
}
console.log(JSON.stringify(report));
"""


def test_the_stock_node_sdk_streams_calls_tools_cancels_and_retries(world: World, tmp_path: Path) -> None:
    need("node with openai")
    entry = openai_module().resolve()
    program = tmp_path / "client.mjs"
    program.write_text(_PROGRAM)
    known = {"OPENAI_ENTRY": entry.as_uri(), "GATEWAY": f"{world.gateway_url}/v1", "KEY": KEY}
    done = subprocess.run(
        ["node", str(program)],
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _check(json.loads(done.stdout), world)


def _check(report: dict[str, Any], world: World) -> None:
    def ended(name: str) -> dict[str, Any]:
        return world.events(report[name]["id"]).ended

    assert report["streamed"]["text"].startswith("The harbour master kept two books.")
    assert report["streamed"]["usage"] is None
    assert (ended("streamed")["outcome"], ended("streamed")["usage"]["output_tokens"]) == ("completed", 40)
    assert report["usage"]["usage"]["completion_tokens"] == 12
    assert (report["whole"]["reason"], report["whole"]["usage"]["completion_tokens"]) == ("length", 15)
    assert ended("whole")["usage"]["output_tokens"] == 15
    assert json.loads(report["tools"]["calls"]) == {"quay": "the old harbour"}
    assert ended("tools")["finish_reasons"] == ["tool_calls"]
    cancelled = ended("cancelled")
    assert cancelled["outcome"] == "cancelled"
    assert report["cancelled"]["taken"] == 30
    assert 29 <= cancelled["usage"]["output_tokens"] < 500
    assert len(report["retried"]["text"]) > 10
    assert ended("retried")["outcome"] == "completed"
    retried_hash = world.events(report["retried"]["id"]).began["request_hash"]
    eventually(lambda: len(_starts_with_hash(world, retried_hash)) == 2, what="the retry is a second stream")
    assert report["broken"]["isApiError"]
    assert "The scenario asks for this error" in report["broken"]["message"]
    assert report["unknown"] == {"status": 404, "code": "model_not_found"}


def _starts_with_hash(world: World, request_hash: str) -> list[dict[str, Any]]:
    return [
        event for event in list(world.sink.events.values()) if event["data"].get("request_hash") == request_hash
    ]
