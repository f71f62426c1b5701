"""The examples of docs/gateway.md run as they are pasted, but for addresses, keys and folders."""

import asyncio
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import openai
import pytest

from metering.access.scopes import Role
from tests.gateway.asking import MESSAGES
from tests.gateway.world import KEY, demo_upstream, running_gateway, settings_of
from tests.running_api import Api
from tests.tools import need, openai_module

PAGE = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()


def example(section: str, language: str) -> str:
    """The one example of a section in a language."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    [code] = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    return str(code)


@pytest.fixture
def ingest_key(api: Api) -> str:
    with api.client_with(Role.INGEST) as client:
        return str(client.headers["authorization"]).removeprefix("Bearer ")


@pytest.fixture
def gateway_url(api: Api, ingest_key: str, demo_url: str, tmp_path: Path) -> Iterator[str]:
    upstreams = (demo_upstream(demo_url, "claude-*"),)
    settings = settings_of(sink_url=api.url, spool=tmp_path / "spool", upstreams=upstreams, ingest_key=ingest_key)
    with running_gateway(settings) as gateway:
        yield gateway.url


def test_the_cost_is_read_with_the_python_sdk(gateway_url: str) -> None:
    code = example("What it cost", "python").replace("http://127.0.0.1:8080", gateway_url).replace("gk_…", KEY)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code, {})
    assert "'state': 'ended'" in printed.getvalue() or "'state': 'finalized'" in printed.getvalue()


def test_the_cost_is_read_with_the_node_sdk(gateway_url: str, tmp_path: Path) -> None:
    need("node with openai")
    code = example("What it cost", "js").replace("http://127.0.0.1:8080", gateway_url).replace("gk_…", KEY)
    (tmp_path / "node_modules").symlink_to(openai_module().parents[1])
    (tmp_path / "cost.mjs").write_text(code)
    done = subprocess.run(
        ["node", "cost.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "state: 'ended'" in done.stdout or "state: 'finalized'" in done.stdout


def test_a_gateway_of_ones_own_meters_with_the_emitter(
    api: Api, ingest_key: str, demo_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERING_KEY", ingest_key)
    code = example("Embedding the emitter", "python").replace("http://127.0.0.1:8000", api.url)
    names: dict[str, Any] = {}
    exec(code.replace("/var/spool/my-gateway", str(tmp_path / "own")), names)
    request = {"model": "gpt-4o", "messages": MESSAGES}
    upstream = openai.AsyncOpenAI(base_url=f"{demo_url}/v1", api_key="sk")

    async def clients() -> None:
        async for _ in names["answer"]("acme", request, upstream):
            continue
        leaving = names["answer"]("acme", request, upstream)
        await anext(leaving)
        await anext(leaving)
        await leaving.aclose()

    asyncio.run(clients())
    assert names["emitter"].close(timeout=60)
    api.finalize()
    charges = api.client.get("/v1/charges").json()["data"]
    assert sorted(each["outcome"] for each in charges) == ["cancelled", "completed"]
    assert all(float(each["cost_usd_cents"]) > 0 for each in charges), json.dumps(charges)
    assert os.environ["METERING_KEY"] == ingest_key
