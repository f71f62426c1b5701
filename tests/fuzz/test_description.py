"""The API does what `/openapi.json` says, and refuses what that does not: schemathesis, with all of its checks.

What it is asked to leave out, and why, is in `schemathesis.toml`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from metering.access.manage_access import create_key
from metering.access.scopes import Role
from metering.server.embedded.data_dir import Services
from tests.builders.seeded import Seeded, build_seeded
from tests.database import Template, clone
from tests.fuzz.hooks import OWN_KEY_ID
from tests.fuzz.wire import EXAMPLES
from tests.local_stripe import local_stripe
from tests.running_api import signed_in

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
# Of each operation and phase.
REQUESTS = EXAMPLES or 2
SECONDS = 600 + 12 * REQUESTS


@pytest.fixture(scope="module")
def world(services: Services, rated_template: Template) -> Iterator[Seeded]:
    """An API of its own to change, which believes the address that a request names."""
    with (
        clone(services, rated_template) as database,
        local_stripe() as stripe,
        database.service(for_api=True, trusted_proxies="127.0.0.1") as built,
        signed_in(built) as running,
    ):
        yield build_seeded(running, stripe, database)


@dataclass(frozen=True)
class Caller:
    """A key to ask with, and the phases."""

    role: Role
    customer_id: str | None
    phases: str


# What a key may not do is answered with 403 before anything else: these ask less.
CALLERS = {
    "admin": Caller(Role.ADMIN, None, "examples,coverage,fuzzing,stateful"),
    "read": Caller(Role.READ, None, "examples,fuzzing"),
    "read of one customer": Caller(Role.READ, "hooli", "examples,fuzzing"),
}


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("name", CALLERS)
def test_the_api_is_as_it_is_described(world: Seeded, tmp_path: Path, name: str) -> None:
    caller = CALLERS[name]
    key = create_key(
        engine=world.service.engine,
        role=caller.role,
        name="fuzz",
        customer_id=caller.customer_id,
        now=datetime.now(UTC),
    )
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{world.api.url}/openapi.json", "--phases", caller.phases),
        *("--max-examples", str(REQUESTS), "--header", f"Authorization: Bearer {key}", "--no-color"),
        *("--report", "json", "--report-json-path", str(report)),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={**os.environ, OWN_KEY_ID: key.key_id},
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    found = json.loads(report.read_text())
    assert found["operations"]["tested"] == found["operations"]["total"] > 40
    assert found["test_cases"]["generated"] > 100
    assert found["errors"] == found["failures"] == []
