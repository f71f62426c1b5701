"""The whole service as real processes, started once, with short waits so that silence is over soon."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from metering.core.clock import utc_now
from metering.db.engine import DatabaseUnavailableError, service_engine, transaction
from metering.server.embedded.supervisor import Supervisor
from metering.server.queries import work_health
from metering.server.settings import load_settings
from metering.server.up import run_all_in_one
from metering.streams.settlement import State
from tests import waiting
from tests.command_line import CommandLine
from tests.running_api import http_client

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
        return CommandLine(None, **self.environment)(*arguments).stdout

    def settle(self, *, within: float = 120) -> None:
        """Wait until nothing is due, nothing is open or waits for its start, and retries are linked."""

        def done() -> bool:
            # Not /metrics: its values may be from before the last event was posted.
            with transaction(self.engine) as connection:
                # Read first: linking makes the retries due before it marks the interruption.
                not_linked = connection.execute(_NOT_LINKED).scalar_one()
            with transaction(self.engine) as connection:
                health = work_health(connection, now=utc_now())
            return not (not_linked or health.due or health.states.keys() & {State.OPEN, State.ENDED})

        assert eventually(done, within=within)


@contextmanager
def run_whole() -> Iterator[Whole]:
    """`metering up`, in this process's hands. Its settings leave the environment with it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with (
            Supervisor(quiet=True) as supervisor,
            run_all_in_one(load_settings(), supervisor=supervisor, ephemeral=True) as running,
            http_client(running.url, headers={"authorization": f"Bearer {KEY}"}) as client,
        ):
            redis_url = running.environment["METERING_REDIS_URL"]
            engine = service_engine(running.environment["METERING_DATABASE_URL"])
            yield Whole(running.url, KEY, client, engine, supervisor, redis_url, running.environment)
            engine.dispose()


_NOT_LINKED = text("SELECT count(*) FROM interrupted_streams WHERE NOT linked")

# While parts are being killed, an answer may be missing.
eventually = partial(waiting.eventually, ignoring=(httpx2.HTTPError, DatabaseUnavailableError, OperationalError))
