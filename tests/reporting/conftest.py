"""Books, whose every test ends with an audit."""

from collections.abc import Iterator

import pytest

from metering.db.schema import ensure_journal_partitions
from metering.server.bootstrap import Service
from tests.builders import NOW, Books
from tests.database import Database


@pytest.fixture
def books(rated_database: Database, rated_service: Service) -> Iterator[Books]:
    """Empty ones, with rates."""
    ensure_journal_partitions(rated_service.engine, now=NOW)
    books = Books(rated_database, rated_service)
    yield books
    assert books.audit() == []
