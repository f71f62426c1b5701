"""Scenes to export, and random months."""

import random
from collections.abc import Iterator

import pytest

from metering.server.bootstrap import Service
from metering.server.embedded.data_dir import Services
from tests.builders import Books
from tests.database import Database, Template, clone
from tests.exports.scene import CHARGES, MONTHS, SKIPPED, Scene, play
from tests.months.random_months import RandomMonths


@pytest.fixture
def scene(rated_database: Database, rated_service: Service) -> Scene:
    """A scene of the test's own."""
    return play(rated_database, rated_service)


@pytest.fixture(scope="module")
def shared_scene(services: Services, rated_template: Template) -> Iterator[Scene]:
    """One for the tests of a module that only read."""
    with clone(services, rated_template) as database, database.service() as service:
        yield play(database, service)


@pytest.fixture
def months(database: Database, service: Service) -> RandomMonths:
    """Six closed months, and one that is open."""
    books = Books(database, service)
    months = RandomMonths(books, random.Random(20261203), customers=40)
    months.add_customers()
    for place in range(MONTHS):
        months.book(place, CHARGES)
        for customer_id in months.random.sample(list(months.zones), k=3):
            months.move(customer_id)
        if place not in SKIPPED and place < MONTHS - 1:
            months.close(place)
    return months
