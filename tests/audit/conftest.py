"""Books with something of everything, of which each test gets a copy of its own."""

from collections.abc import Iterator

import pytest

from metering.server.embedded.data_dir import Services
from tests.audit.planting import Planting, fill
from tests.builders import Books
from tests.database import Template, clone, copy

BOOKS_TEMPLATE = "metering_books_template"


@pytest.fixture(scope="session")
def books_template(services: Services, rated_template: Template) -> Template:
    """A template with the books of `fill`."""
    database = copy(services, rated_template, name=BOOKS_TEMPLATE)
    with database.service() as service:
        fill(Books(database, service))
    return Template(BOOKS_TEMPLATE, rated_template.cards)


@pytest.fixture
def planting(services: Services, books_template: Template) -> Iterator[Planting]:
    with clone(services, books_template) as database, database.service() as service:
        yield Planting(Books(database, service))
