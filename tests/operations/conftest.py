"""What the tests of operations share."""

import pytest

from metering.bootstrap import Service
from tests.conftest import Database
from tests.operations.books import Books


@pytest.fixture
def books(rated_database: Database, rated_service: Service) -> Books:
    return Books(rated_database, rated_service)
