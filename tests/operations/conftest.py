"""What the tests of operations share."""

from collections.abc import Iterator

import pytest

from metering.db.schema import ensure_journal_partitions
from metering.server.bootstrap import Service
from tests.conftest import Database
from tests.operations.books import NOW, Books


@pytest.fixture
def books(rated_database: Database, rated_service: Service) -> Iterator[Books]:
    """Books whose every test ends with an audit."""
    ensure_journal_partitions(rated_service.engine, now=NOW)
    books = Books(rated_database, rated_service)
    yield books
    assert books.audit() == []
