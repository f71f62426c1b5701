"""The example of docs/budgets.md runs as it is pasted, but for addresses, keys and folders."""

import asyncio
import re
from pathlib import Path
from typing import Any

import openai
import pytest

from metering.emitter import HoldRefused, HoldSettings
from tests.gateway.asking import MESSAGES, scenario
from tests.gateway.holds.world import HeldWorld, set_up
from tests.gateway.other_upstream import OtherUpstream
from tests.running_api import Api

PAGE = (Path(__file__).parents[3] / "docs" / "budgets.md").read_text()


def test_a_gateway_of_ones_own_asks_for_holds_and_stops(
    api: Api, demo_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERING_KEY", set_up(api, limit="3000"))
    text = PAGE.split("\n## In your gateway\n")[1].split("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {"HoldSettings": HoldSettings}
    here = {
        "http://127.0.0.1:8000": api.url,
        "/var/spool/my-gateway": str(tmp_path / "own"),
        # A machine that is busy with tests may take longer than a second.
        'source="/gateways/mine"': 'source="/gateways/mine", holds=HoldSettings(timeout=20)',
    }
    for there, instead in here.items():
        assert there in code
        code = code.replace(there, instead)
    exec(code, names)
    request = {"model": "chat-1", "messages": MESSAGES, "extra_headers": scenario(tokens=9_000, rate=2_000)}
    upstream = openai.AsyncOpenAI(base_url=f"{demo_url}/v1", api_key="sk")

    async def clients() -> int:
        # A slice of 2,000 tokens fits once: 20 dollars of 30.
        chunks = [chunk async for chunk in names["answer"]("acme", request, upstream)]
        return len(chunks)

    received = asyncio.run(clients())
    assert 1_000 < received < 9_000
    assert names["emitter"].hold_stats().stopped == 1
    world = HeldWorld(api, "", OtherUpstream())
    [charge] = world.charges(1)
    assert world.ending(charge["stream_id"]) == ("cancelled", "budget")
    assert world.figures() == (charge["cost_usd_cents"], "0", 0)
    with pytest.raises(HoldRefused, match="budget b has"):
        asyncio.run(clients())
    assert names["emitter"].close(timeout=60)
    assert len(world.streams()) == 1
