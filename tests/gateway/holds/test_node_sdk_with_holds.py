"""The stock `openai` package for Node does not retry a refused hold, and raises a cut stream as an APIError."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.gateway.holds.world import SLIDING, HeldWorld, StartHeld
from tests.gateway.world import KEY
from tests.tools import need, openai_module

_PROGRAM = """
const { default: OpenAI, APIError } = await import(process.env.OPENAI_ENTRY);
const client = new OpenAI({ baseURL: process.env.GATEWAY, apiKey: process.env.KEY, maxRetries: 3 });
const messages = [{ role: "user", content: "How did the harbour master keep his books?" }];
const asked = { model: "chat-1", messages };
const long = { headers: { "x-upstream-scenario": "tokens=5000, rate=100" } };
const report = { text: "" };
const seen = (error) => ({ isApiError: error instanceof APIError, status: error.status ?? null, code: error.code,
                           message: error.message, details: error.error?.details ?? null });
try {
  await client.chat.completions.create({ ...asked, max_tokens: 61 });
} catch (error) {
  report.refused = seen(error);
}
try {
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }, long))
    report.text += chunk.choices[0]?.delta?.content ?? "";
} catch (error) {
  report.cut = seen(error);
}
console.log(JSON.stringify(report));
"""


def ask_with_node(world: HeldWorld, folder: Path) -> dict[str, Any]:
    """What the program reports."""
    program = folder / "client.mjs"
    program.write_text(_PROGRAM)
    known = {"OPENAI_ENTRY": openai_module().resolve().as_uri(), "GATEWAY": f"{world.url}/v1", "KEY": KEY}
    command = ["node", str(program)]
    done = subprocess.run(
        command, env={**os.environ, **known}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_node_sees_a_refused_hold_and_a_cut_stream(start_held: StartHeld, tmp_path: Path) -> None:
    need("node with openai")
    world = start_held(limit="60", holds=SLIDING)
    report = ask_with_node(world, tmp_path)
    refused, cut = report["refused"], report["cut"]
    assert (refused["isApiError"], refused["status"], refused["code"]) == (True, 402, "budget_exhausted")
    assert refused["details"]["max_output_tokens_that_fit"] == 60
    assert world.holds("refused") == 1
    assert (cut["isApiError"], cut["code"]) == (True, "budget_exhausted")
    assert "this answer was cut off" in cut["message"]
    assert report["text"]
    [charge] = world.charges(1)
    assert world.ending(charge["stream_id"]) == ("cancelled", "budget")
