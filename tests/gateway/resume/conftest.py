"""One Valkey for the tests that do not harm it."""

from collections.abc import Iterator

import pytest

from tests.gateway.resume.valkey import RunningValkey, running_valkey


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningValkey]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey
