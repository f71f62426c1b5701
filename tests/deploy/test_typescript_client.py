"""The Node emitter against the real API: what its streams cost, what outlives a server and a process."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.emitter.resend import find_kept
from metering.lab.demo.upstream import create_upstream
from metering.server.bootstrap import Service
from tests.deploy.typescript_client import Package
from tests.emitter.sink import RunningServer, free_port
from tests.running_api import Api, http_client, signed_in
from tests.tools import TYPESCRIPT
from tests.waiting import eventually

pytestmark = pytest.mark.long

_NOW = datetime(2026, 11, 23, tzinfo=UTC)


def _key(service: Service) -> str:
    key = create_key(engine=service.engine, role=Role.INGEST, name="node", customer_id=None, now=_NOW)
    return str(key)


def _stream(api: Api, stream_id: str) -> dict[str, Any]:
    shape: dict[str, Any] = api.client.get(f"/v1/streams/acme/{stream_id}").json()
    return shape


def _journal(api: Api, stream_id: str) -> list[dict[str, Any]]:
    page = api.client.get(f"/v1/streams/acme/{stream_id}/events").json()
    assert page["complete"]
    return [each["event"] for each in page["data"]]


_EVERY_OUTCOME = """
await emitter.metered({ ...asked, streamId: "completed", durable: true }, (stream) => {
  stream.take({ id: "msg_1", choices: [{ index: 0, delta: { content: "Hello" } }] });
  stream.take({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
  stream.take({ choices: [], usage: { prompt_tokens: 812, completion_tokens: 37, total_tokens: 849 } });
});
const client = new AbortController();
await emitter.metered({ ...asked, streamId: "cancelled", signal: client.signal }, async (stream) => {
  for (let tokens = 1; tokens <= 20; tokens += 1) stream.delivered({ outputTokens: tokens });
  await pause(200);
  stream.delivered({ outputTokens: 37 });
  client.abort();
  throw client.signal.reason;
}).catch(() => {});
await emitter.metered({ ...asked, streamId: "failed" }, (stream) => {
  stream.take({ type: "message_start", message: { id: "msg_2", usage: { input_tokens: 812, output_tokens: 1 } } });
  stream.take({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "x".repeat(148) } });
  throw new RangeError("the upstream broke off");
}).catch(() => {});
await emitter.metered({ ...asked, streamId: "timed_out" }, () => {
  throw new DOMException("too late", "TimeoutError");
}).catch(() => {});
say({ closed: await emitter.close(), stats: emitter.stats() });
"""


def test_streams_are_billed_for_what_they_delivered(api: Api, package: Package, tmp_path: Path) -> None:
    env = {"METERING_URL": api.url, "METERING_INGEST_KEY": _key(api.service), "SPOOL": str(tmp_path)}
    with package.running(_EVERY_OUTCOME, **env) as process:
        said = process.hear()
        assert process.finish() == ""
    assert said["closed"]
    assert said["stats"]["sent"] + said["stats"]["coalesced"] == said["stats"]["emitted"]
    api.finalize()
    found = {name: _stream(api, name) for name in ("completed", "cancelled", "failed", "timed_out")}
    assert {name: (each["state"], each["outcome"]) for name, each in found.items()} == {
        name: ("finalized", name) for name in found
    }
    # 812 tokens at $5 per million, and 37 at $25; what timed out has delivered nothing.
    assert {name: each["cost_usd_cents"] for name, each in found.items()} == {
        "completed": "0.4985",
        "cancelled": "0.4985",
        "failed": "0.4985",
        "timed_out": "0",
    }
    assert {name: each["usage_source"] for name, each in found.items() if name != "timed_out"} == {
        "completed": "provider",
        "cancelled": "gateway_count",
        "failed": "gateway_count",
    }
    journal = _journal(api, "cancelled")
    assert [event["id"] for event in journal if event["type"] != "token-delivered"] == [
        "cancelled:start",
        "cancelled:end",
    ]
    assert max(e["data"]["output_tokens"] for e in journal if e["type"] == "token-delivered") >= 16
    ends = [event["data"] for event in _journal(api, "failed") if event["type"] == "stream-end"]
    assert [end["error_type"] for end in ends] == ["RangeError"]
    assert (tmp_path / "rejected.ndjson").exists() is False


def test_a_server_that_comes_late_gets_everything(
    rated_service: Service, package: Package, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    body = """
for (let n = 0; n < 300; n += 1) {
  emitter.stream({ ...asked, streamId: `s${n}` }).end({ usage: { inputTokens: 812, outputTokens: 37 },
                                                        usageSource: "provider" });
}
while (emitter.stats().spooled < 600 || emitter.stats().retries === 0) await pause(10);
say(emitter.stats());
while (emitter.stats().sent < 600) await pause(10);
say({ closed: await emitter.close(), stats: emitter.stats() });
"""
    env = {"METERING_URL": url, "METERING_INGEST_KEY": _key(rated_service), "SPOOL": str(tmp_path)}
    with package.running(body, **env) as process:
        assert process.hear()["sent"] == 0
        with signed_in(rated_service, port=port) as api:
            said = process.hear()
            log = process.finish()
            api.finalize()
            costs = {_stream(api, f"s{n}")["cost_usd_cents"] for n in range(0, 300, 60)}
    assert said["closed"]
    assert said["stats"]["spooled"] == said["stats"]["dropped"] == 0
    assert costs == {"0.4985"}
    assert log.count("cannot be reached") == 1
    assert log.count("the server accepts usage events again") == 1


def test_a_second_process_sends_what_a_killed_one_left(api: Api, package: Package, tmp_path: Path) -> None:
    env = {"METERING_INGEST_KEY": _key(api.service), "SPOOL": str(tmp_path)}
    body = """
const ended = emitter.stream({ ...asked, streamId: "ended" });
ended.delivered({ outputTokens: 37 });
ended.end({ outcome: "cancelled" });
const open = emitter.stream({ ...asked, streamId: "open" });
open.delivered({ outputTokens: 500 });
await open.startOnDisk();
say("on disk");
setInterval(() => open.delivered({ outputTokens: 500 }), 1000);
"""
    with package.running(body, METERING_URL=f"http://127.0.0.1:{free_port()}", **env) as killed:
        assert killed.hear() == "on disk"
        killed.child.kill()
        killed.finish()
    [left] = tmp_path.glob("node-*/*.ndjson")
    with left.open("a") as file:
        file.write('{"specversion":"1.0","type":"stream-e')
    second = "say({ closed: await emitter.close(), stats: emitter.stats() });"
    with package.running(second, METERING_URL=api.url, **env) as process:
        said = process.hear()
    assert said["closed"]
    assert (said["stats"]["inherited"], said["stats"]["sent"], said["stats"]["rejected"]) == (6, 5, 1)
    api.finalize()
    assert _stream(api, "ended")["cost_usd_cents"] == "0.4985"
    assert _stream(api, "open")["state"] == "open"
    assert [event["id"] for event in _journal(api, "open")] == ["open:start", "open:t:1"]
    assert list(tmp_path.glob("node-*")) == []


def test_kept_events_are_found_by_resend(api: Api, package: Package, tmp_path: Path) -> None:
    body = """
const keeping = new Emitter({ url: process.env.METERING_URL, key: process.env.METERING_INGEST_KEY, source: "/g",
                              spool: process.env.SPOOL, keepSentMs: 60_000 });
keeping.stream({ ...asked, streamId: "kept" }).end();
say(await keeping.close());
process.exit();
"""
    env = {"METERING_URL": api.url, "METERING_INGEST_KEY": _key(api.service), "SPOOL": str(tmp_path)}
    with package.running(body, **env) as process:
        assert process.hear() is True
    assert len(find_kept(spool=tmp_path, since=_NOW).files) == 1


@pytest.fixture
def upstream() -> Iterator[str]:
    with RunningServer(create_upstream(rate=400.0)) as server:
        yield server.url


def test_the_gateway_of_the_readme_meters_and_cancels(
    api: Api, package: Package, tmp_path: Path, upstream: str
) -> None:
    [example] = re.findall(r"```js\n(.*?)```", (TYPESCRIPT / "README.md").read_text(), re.DOTALL)
    assert sum(1 for line in example.splitlines() if line) <= 40
    port = free_port()
    env = {
        "METERING_URL": api.url,
        "METERING_INGEST_KEY": _key(api.service),
        "SPOOL": str(tmp_path),
        "UPSTREAM_URL": f"{upstream}/v1",
        "PORT": str(port),
    }
    asked = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "What did he write?"}]}
    with (
        package.running(example, prelude="", **env) as process,
        http_client(f"http://127.0.0.1:{port}", headers={"x-customer": "acme"}) as client,
    ):
        assert eventually(lambda: client.get("/").status_code == 502, ignoring=(httpx2.ConnectError,))
        whole = client.post("/v1/chat/completions", json={**asked, "max_tokens": 25})
        assert "[DONE]" in whole.text
        with client.stream("POST", "/v1/chat/completions", json=asked) as left:
            for _ in zip(range(30), left.iter_lines(), strict=False):
                pass
        process.child.terminate()
        assert process.finish() == ""
    api.finalize()
    completed, cancelled = (_stream(api, each.headers["x-metering-stream-id"]) for each in (whole, left))
    assert (completed["outcome"], completed["usage"]["output_tokens"]) == ("completed", 25)
    assert completed["usage_source"] == "provider"
    assert cancelled["outcome"] == "cancelled"
    assert 10 <= cancelled["usage"]["output_tokens"] < 600
    assert cancelled["state"] == "finalized"


def test_its_own_tests_pass(package: Package) -> None:
    done = package.npm("test")
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr


def test_the_package_has_what_its_users_need_and_nothing_else(package: Package) -> None:
    [packed] = json.loads(package.npm("pack", "--dry-run", "--json", "--ignore-scripts").stdout)
    files = {each["path"] for each in packed["files"]}
    assert {"LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts"} <= files
    assert all(path.startswith("dist/") for path in files - {"LICENSE", "README.md", "package.json"})
    assert "dependencies" not in json.loads((package.folder / "package.json").read_text())
    lock = (TYPESCRIPT / "package-lock.json").read_text()
    assert set(re.findall(r'"resolved": "(https?://[^/]+)', lock)) <= {"https://registry.npmjs.org"}
