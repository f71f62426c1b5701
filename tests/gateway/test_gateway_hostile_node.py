"""The table of hostile upstreams once more, with the stock `openai` package of Node."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.gateway.asking import MESSAGES
from tests.gateway.hostile import ends, framings, texts, usages
from tests.gateway.hostile.behaviours import Behaviour
from tests.gateway.hostile.running import hostile_world
from tests.gateway.world import KEY
from tests.tools import need, openai_module

_PROGRAM = """
const { default: OpenAI } = await import(process.env.OPENAI_ENTRY);
const client = new OpenAI({ baseURL: process.env.GATEWAY, apiKey: process.env.KEY, maxRetries: 0 });
const report = {};
for (const { name, request } of JSON.parse(process.env.ASKED)) {
  const seen = { id: null, text: "", error: null };
  try {
    const { data, response } = await client.chat.completions.create({ ...request, stream: true }).withResponse();
    seen.id = response.headers.get("x-metering-stream-id");
    for await (const chunk of data)
      for (const choice of chunk.choices ?? [])
        if (typeof choice.delta?.content === "string") seen.text += choice.delta.content;
  } catch (error) {
    seen.error = String(error.message);
    seen.id = error.headers?.get?.("x-metering-stream-id") ?? seen.id;
  }
  report[name] = seen;
}
console.log(JSON.stringify(report));
"""
# Its JSON refuses NaN and Infinity, also without a gateway; what was written is billed all the same.
_NOT_READ_BY_NODE = {"text-nan-logprobs", "text-infinity"}
_STREAMED = [
    each
    for each in (*usages.BEHAVIOURS, *texts.BEHAVIOURS, *framings.BEHAVIOURS, *ends.CUTS, *ends.REFUSALS)
    if "stream" not in each.request
]


def test_what_the_upstream_wrote_is_seen_by_node_and_billed_once(tmp_path: Path) -> None:
    need("node with openai")
    program = tmp_path / "client.mjs"
    program.write_text(_PROGRAM)
    with hostile_world(_STREAMED, tmp_path / "spool") as world:
        known = {
            "OPENAI_ENTRY": openai_module().resolve().as_uri(),
            "GATEWAY": f"{world.url}/v1",
            "KEY": KEY,
            "ASKED": json.dumps([_asked(each) for each in _STREAMED]),
        }
        done = subprocess.run(
            ["node", str(program)],
            env={**os.environ, **known},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        wrong = {each.name: says for each in _STREAMED if (says := _difference(each, report[each.name], world))}
    assert wrong == {}


def _asked(behaviour: Behaviour) -> dict[str, Any]:
    request = {"model": f"{behaviour.model}:{behaviour.name}", "messages": MESSAGES, **behaviour.request}
    return {"name": behaviour.name, "request": request}


def _difference(behaviour: Behaviour, seen: dict[str, Any], world: Any) -> str | None:
    expected = behaviour.expected
    ended = world.events(seen["id"]).ended
    billed = (ended["outcome"], ended.get("error_type"), ended.get("usage"), ended.get("usage_source"))
    if billed != (expected.outcome, expected.error_type, expected.usage, expected.source):
        return f"billed {billed}"
    if behaviour.name in _NOT_READ_BY_NODE:
        return None
    if expected.text is not None and seen["text"] != expected.text:
        return f"text {seen['text']!r}, error {seen['error']!r}"
    if expected.error is not None and expected.error not in (seen["error"] or ""):
        return f"error {seen['error']!r}"
    return None


def test_the_table_for_node_is_long() -> None:
    assert len(_STREAMED) > 120
