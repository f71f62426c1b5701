"""docs/tutorials/connect-a-gateway.md, followed from its first step to its last, but for ports and folders."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from metering.server.embedded.data_dir import ephemeral_data_dir
from metering.server.up import free_port
from tests.docs.pages import ROOT, Page, running_up
from tests.running_api import http_client
from tests.waiting import eventually

pytestmark = pytest.mark.long


@pytest.fixture
def data() -> Iterator[Path]:
    with ephemeral_data_dir() as folder:
        yield folder / "data"


def answers(url: str) -> bool:
    return eventually(lambda: bool(httpx2.get(url, timeout=60)), within=120, ignoring=(httpx2.HTTPError,))


def final_stream(page: Page, stream_id: str) -> dict[str, Any]:
    """The stream once it is final, by the command of the page's last step."""
    [code] = page.examples("7. Let a client leave")
    command = code.strip().split("\n")[-1].replace('"$LEFT"', stream_id)
    found: dict[str, Any] = {}

    def is_final() -> bool:
        found.update(json.loads(page.run(f"{command} --json")))
        return bool(found["state"] == "finalized")

    assert eventually(is_final, within=120, ignoring=(AssertionError,)), found
    return found


def test_make_up_starts_the_service() -> None:
    done = subprocess.run(["make", "-n", "up"], cwd=ROOT, capture_output=True, text=True, check=True)
    # A make inside `make test` also says which folder it is in.
    assert ".venv/bin/metering up" in done.stdout.splitlines()


def test_a_call_of_the_stock_client_is_seen_with_its_cost(data: Path, tmp_path: Path) -> None:
    upstream, gateway = free_port(), free_port()
    with running_up(data) as up:
        page = Page(
            name="tutorials/connect-a-gateway.md",
            replaced={
                "http://127.0.0.1:8000": up["url"],
                "http://127.0.0.1:8080": f"http://127.0.0.1:{gateway}",
                "127.0.0.1:8090": f"127.0.0.1:{upstream}",
                "port=8090": f"port={upstream}",
            },
            environment={
                "METERING_DATA": str(data),
                "METERING_GATEWAY_PORT": str(gateway),
                "METERING_GATEWAY_SPOOL": str(tmp_path / "spool"),
            },
            folder=tmp_path,
        )
        [start_upstream] = page.examples("2. Start an upstream")
        [start_gateway] = page.examples("3. Start the gateway")
        with page.running(start_upstream), page.running(start_gateway):
            assert answers(f"http://127.0.0.1:{upstream}/_sent")
            assert answers(f"http://127.0.0.1:{gateway}/livez")
            follow(page, up)


def follow(page: Page, up: dict[str, Any]) -> None:
    """Steps 4 to 7."""
    [script] = page.examples("4. Make a call", "python")
    (page.folder / "call.py").write_text(script)
    [call] = page.examples("4. Make a call")
    stream_id = page.run(f"{call}\necho $STREAM").strip()
    final = final_stream(page, stream_id)
    assert (final["outcome"], final["usage_source"]) == ("completed", "provider")
    assert float(final["cost_usd_cents"]) > 0

    [see] = page.examples("5. See what it cost")
    assert stream_id in page.run(see, STREAM=stream_id)
    with http_client(up["url"]) as browser:
        signed = browser.post("/dashboard/sign-in", data={"key": up["admin_key"]})
        assert signed.status_code == 303
        assert stream_id in browser.get("/dashboard/streams").text
        where = {"customer_id": "acme", "stream_id": stream_id}
        assert "Verification" in browser.get("/dashboard/stream", params=where).text

    [leave] = page.examples("7. Let a client leave")
    left_id = page.run(f"{leave.splitlines()[0]}\necho $LEFT").strip()
    left = final_stream(page, left_id)
    assert (left["outcome"], left["usage_source"]) == ("cancelled", "gateway_count")
    assert 0 < float(left["cost_usd_cents"]) < float(final["cost_usd_cents"])
