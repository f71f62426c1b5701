"""`python -m metering.lab.stripe_local`: its options reach what they are for."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from metering.server.up import free_port
from tests.local_stripe import KEY
from tests.running_api import http_client
from tests.waiting import eventually

COMMAND = [sys.executable, "-m", "metering.lab.stripe_local"]


@contextmanager
def started(*options: str) -> Iterator[httpx2.Client]:
    port = free_port()
    process = subprocess.Popen([*COMMAND, "--port", str(port), *options])
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        with http_client(f"http://127.0.0.1:{port}", headers=headers) as client:
            assert eventually(lambda: client.get("/livez").is_success, ignoring=(httpx2.HTTPError,))
            yield client
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_a_search_over_a_kept_file_lags_by_the_configured_delay(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "stripe.db"))
    with started(*state) as client:
        assert client.post("/v1/customers", data={"name": "Ann"}).is_success
        assert client.get("/v1/customers/search", params={"query": "name:'Ann'"}).json()["data"] == []
    with started(*state, "--search-delay", "0") as client:
        found = client.get("/v1/customers/search", params={"query": "name:'Ann'"}).json()["data"]
        assert [each["name"] for each in found] == ["Ann"]


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ((), [None, None, None]),
        (("--requests-per-endpoint", "0.01"), [None, "endpoint-rate", None]),
        (("--requests-per-second", "0.01"), [None, "global-rate", "global-rate"]),
    ],
)
def test_limits_are_off_unless_they_are_given(options: tuple[str, ...], reasons: list[str | None]) -> None:
    with started(*options) as client:
        answers = [client.get(path) for path in ("/v1/balance", "/v1/balance", "/v1/events")]
        assert [each.headers.get("stripe-rate-limited-reason") for each in answers] == reasons


@pytest.mark.parametrize("rate", ["0", "-1", "many"])
def test_a_limit_that_makes_no_sense_is_refused(rate: str) -> None:
    command = [*COMMAND, "--requests-per-second", rate]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    assert "--requests-per-second" in process.stderr
