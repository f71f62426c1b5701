"""The whole service as real processes, started once."""

import json
import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.scenarios.whole import Whole, run_whole


@pytest.fixture(scope="package")
def whole() -> Iterator[Whole]:
    """`metering up`, in this process's hands."""
    with run_whole() as running:
        yield running


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
