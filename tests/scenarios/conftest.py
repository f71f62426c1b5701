"""The whole service for the scenarios: API, worker, beat, PostgreSQL and Valkey as processes, started once."""

import json
import os
import random
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from metering.all_in_one import run_all_in_one
from metering.config import load_settings
from metering.embedded.supervisor import Supervisor
from tests.scenarios.clients import Client

SEED = int(os.environ.get("TEST_SEED") or secrets.randbelow(1_000_000))
ABANDON_AFTER = 3.0
START_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Whole:
    """The running service. `admin` may do everything, `ingest` only post."""

    url: str
    redis_url: str
    environment: dict[str, str]
    supervisor: Supervisor
    admin: Client
    ingest: Client

    def key(self, role: str, customer: str | None = None) -> str:
        """A new key, from the command line as a person gets one."""
        command = [sys.executable, "-m", "metering", "keys", "create", "--role", role, "--json"]
        command += ["--customer", customer] if customer else []
        run = subprocess.run(command, env=os.environ | self.environment, capture_output=True, check=True, timeout=30)
        return json.loads(run.stdout)["key"]


@pytest.fixture(scope="package")
def whole() -> Iterator[Whole]:
    """Its settings reach the processes through the environment, which is put back afterwards."""
    admin_key = f"mk_admin_{secrets.token_hex(16)}"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("METERING_")]:
            patch.delenv(name)
        patch.setenv("METERING_ADMIN_KEY", admin_key)
        patch.setenv("METERING_ABANDON_AFTER", f"{ABANDON_AFTER:g}s")
        patch.setenv("METERING_START_GRACE", f"{START_GRACE:g}s")
        settings = load_settings().model_copy(update={"port": 0})
        with (
            Supervisor(quiet="TEST_LOUD" not in os.environ) as supervisor,
            run_all_in_one(settings, supervisor=supervisor, ephemeral=True) as running,
        ):
            admin = Client(running.url, admin_key)
            redis_url = running.environment["METERING_REDIS_URL"]
            whole = Whole(running.url, redis_url, running.environment, supervisor, admin, admin)
            yield Whole(
                running.url, redis_url, running.environment, supervisor, admin, admin.with_key(whole.key("ingest"))
            )


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random choices of this test's own, the same for the same TEST_SEED; pytest shows the seed on failure."""
    print(f"TEST_SEED={SEED} replays this")
    return random.Random(f"{SEED} {request.node.name}")
