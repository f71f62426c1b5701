"""Books with something of everything, of which each test gets a copy of its own."""

from collections.abc import Iterator

import psycopg
import pytest

from metering.server.bootstrap import build_service
from metering.server.embedded.data_dir import Services
from tests.audit.planting import Planting, fill
from tests.builders import Books
from tests.database import Database, clone, database_url

BOOKS_TEMPLATE = "metering_books_template"


@pytest.fixture(scope="session")
def books_template(services: Services, rated_template: str) -> str:
    """The name of a template with the books of `fill`."""
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {BOOKS_TEMPLATE} TEMPLATE {rated_template}")
    database = Database(database_url(services, BOOKS_TEMPLATE), services.redis_url)
    service = build_service(database.settings())
    fill(Books(database, service))
    service.engine.dispose()
    return BOOKS_TEMPLATE


@pytest.fixture
def planting(services: Services, books_template: str) -> Iterator[Planting]:
    with clone(services, books_template) as database:
        service = build_service(database.settings())
        yield Planting(Books(database, service))
        service.engine.dispose()
