"""The whole service as real processes, started once, with short patience so that silence is over soon."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from metering.core.clock import utc_now
from metering.db.engine import DatabaseUnavailableError, service_engine, transaction
from metering.server.embedded.supervisor import Supervisor
from metering.server.queries import work_health
from metering.server.settings import load_settings
from metering.server.up import run_all_in_one
from metering.streams.settlement import State
from tests import waiting

KEY = "mk_scenario_0123456789abcdef"
ENVIRONMENT = {
    "METERING_ADMIN_KEY": KEY,
    "METERING_ABANDON_AFTER": "3s",
    "METERING_START_GRACE": "2s",
    "METERING_PORT": "0",
}


@dataclass(frozen=True, slots=True)
class Whole:
    """The running service, and a hand on its processes."""

    url: str
    key: str
    client: httpx2.Client
    engine: Engine
    supervisor: Supervisor
    redis_url: str
    environment: dict[str, str]

    def get(self, path: str, **query: Any) -> Any:
        """A document."""
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, customer: str, stream_id: str) -> Any:
        """A stream, whatever its ids look like."""
        return self.get(f"/v1/streams/{quote(customer, safe='')}/{quote(stream_id, safe='')}")

    def all_rows(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Every row of every page."""
        rows: list[dict[str, Any]] = []
        page = self.get(path, **query)
        rows += page["data"]
        while page["next_cursor"]:
            page = self.get(path, **query, cursor=page["next_cursor"])
            rows += page["data"]
        return rows

    def audit(self) -> None:
        """Have `metering audit` agree with all that was ever posted."""
        assert self.meter("audit") == "nothing differs\n"

    def meter(self, *arguments: str) -> str:
        """Run a command, as a person does; returns what it prints."""
        command = [sys.executable, "-m", "metering", *arguments]
        run = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def settle(self, *, within: float = 40) -> None:
        """Wait until nothing is due and nothing is open or waits for its start."""

        def done() -> bool:
            # Not /metrics: what it tells may be from before the last event was posted.
            with transaction(self.engine) as connection:
                health = work_health(connection, now=utc_now())
            return health.due == 0 and not health.states.keys() & {State.OPEN, State.ENDED}

        assert eventually(done, within=within)


# While parts are being killed, an answer may be missing.
eventually = partial(waiting.eventually, ignoring=(httpx2.HTTPError, DatabaseUnavailableError, OperationalError))


@pytest.fixture(scope="package")
def whole() -> Iterator[Whole]:
    """`metering up`, in this process's hands. Its settings leave the environment with it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with (
            Supervisor(quiet=True) as supervisor,
            run_all_in_one(load_settings(), supervisor=supervisor, ephemeral=True) as running,
            httpx2.Client(base_url=running.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client,
        ):
            redis_url = running.environment["METERING_REDIS_URL"]
            engine = service_engine(running.environment["METERING_DATABASE_URL"])
            yield Whole(running.url, KEY, client, engine, supervisor, redis_url, running.environment)
            engine.dispose()


@pytest.fixture(scope="package")
def new_key(whole: Whole) -> Callable[..., str]:
    """Makes a key of a role, bound to a customer or not, as a person does: with the command line."""

    def make(role: str, customer: str | None = None) -> str:
        bound = ["--customer", customer] if customer else []
        printed = whole.meter("keys", "create", "--role", role, "--json", *bound)
        key: str = json.loads(printed)["key"]
        return key

    return make


@pytest.fixture(scope="session")
def seed() -> int:
    """Told with every failure; set TEST_SEED to play the same again."""
    chosen = int(os.environ.get("TEST_SEED", time.time_ns() % 1_000_000))
    print(f"TEST_SEED={chosen}")
    return chosen
