"""The Node package, built once."""

import pytest

from tests.deploy.typescript_client import Package, build
from tests.tools import need


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    need("node with typescript")
    return build(tmp_path_factory.mktemp("typescript"))
