"""The whole service as real processes, started once."""

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from metering.db.engine import service_engine
from metering.server.embedded.supervisor import Supervisor
from metering.server.settings import load_settings
from metering.server.up import run_all_in_one
from tests.running_api import http_client
from tests.scenarios.whole import ENVIRONMENT, KEY, Whole


@pytest.fixture(scope="package")
def whole() -> Iterator[Whole]:
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
