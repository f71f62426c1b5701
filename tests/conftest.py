"""What every test may use: a real PostgreSQL and a real Valkey for the session, a fresh database for each test."""

import gc
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import hypothesis
import pytest
from sqlalchemy import Engine

from metering.core.collector import freeze_collector
from metering.db.schema import ensure_journal_partitions
from metering.prices.import_rates import import_rates
from metering.prices.store.cards import load_rate_cards
from metering.server.bootstrap import Service
from metering.server.embedded.data_dir import Services, ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from tests.builders import NOW, Books, Months
from tests.builders.catalogues import PRICES
from tests.builders.seeded import Seeded, build_seeded
from tests.certificates import trust_none
from tests.database import GIVEN_URL, Database, Servers, Template, clone, copy, make_empty
from tests.local_stripe import LocalStripe, local_stripe
from tests.memory import use_memory
from tests.order import long_first
from tests.running_api import Api, signed_in
from tests.tools import left_out

MOST_PROCESSES = 4
VENDORS = {"anthropic", "aws", "azure", "cohere", "deepseek", "google", "groq", "mistral", "openai", "x-ai"}
EMPTY, RATED = "metering_empty", "metering_rated"

use_memory()

# A shell starts its background jobs with SIGINT ignored, and a process that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

trust_none()

# How long an example takes says something of the machine, which others use too, and nothing of the property.
hypothesis.settings.register_profile(
    "metering", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("metering")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which tests were left out for want of a tool."""
    skipped = terminalreporter.stats.get("skipped", [])
    line = left_out(str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple))
    if line is not None:
        terminalreporter.write_line(line, yellow=True)


def pytest_xdist_auto_num_workers() -> int:
    """Two processes more than there are cores: tests wait for processes of their own."""
    return min(MOST_PROCESSES, (os.cpu_count() or 1) + 2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long tests, in each of the parts of which `--dist worksteal` gives one to each process."""
    if hasattr(config, "workerinput"):
        items[:] = long_first(items, processes=config.workerinput["workercount"])


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported and collected: it took a quarter of the time of some tests."""
    freeze_collector(young_objects=20_000)
    gc.enable()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers themselves, and what supervises them, with a migrated database to clone."""
    for name in [name for name in os.environ if name.startswith("METERING_")]:
        if name != "METERING_NODE_MODULES":
            del os.environ[name]
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor, postgres=GIVEN_URL is None) as started,
    ):
        running = started if GIVEN_URL is None else replace(started, database_url=GIVEN_URL)
        make_empty(running, name=EMPTY)
        yield Servers(running, supervisor)


@pytest.fixture(scope="session")
def services(servers: Servers) -> Services:
    """Where the servers are."""
    return servers.services


@pytest.fixture(scope="session")
def rated_template(services: Services) -> Template:
    """A template that also has rates: the vendors' of the catalogue, without the many of those who resell them.

    Its journal is ready for the time of the tests.
    """
    catalogue = replace(PRICES, cards=[card for card in PRICES.cards if card.provider in VENDORS])
    with copy(services, Template(EMPTY), name=RATED).service() as built:
        import_rates(engine=built.engine, catalogue=catalogue, now=datetime(2026, 11, 1, tzinfo=UTC))
        # Here, so that not every test makes the partitions.
        ensure_journal_partitions(built.engine, now=NOW)
        with built.engine.connect() as connection:
            return Template(RATED, tuple(load_rate_cards(connection)))


@pytest.fixture
def database(services: Services) -> Iterator[Database]:
    """A fresh, migrated, empty database."""
    with clone(services, Template(EMPTY)) as cloned:
        yield cloned


@pytest.fixture
def rated_database(services: Services, rated_template: Template) -> Iterator[Database]:
    """A fresh database with the catalogue's rates."""
    with clone(services, rated_template) as cloned:
        yield cloned


@pytest.fixture
def service(database: Database) -> Iterator[Service]:
    """The service on an empty database."""
    with database.service() as built:
        yield built


@pytest.fixture
def rated_service(rated_database: Database) -> Iterator[Service]:
    """The service on a database with the catalogue's rates."""
    with rated_database.service() as built:
        yield built


@pytest.fixture
def engine(service: Service) -> Engine:
    """The service's connections, with its privileges only."""
    return service.engine


@pytest.fixture
def books(rated_database: Database, rated_service: Service) -> Iterator[Books]:
    """Books whose every test ends with an audit."""
    books = Books(rated_database, rated_service)
    yield books
    assert books.audit() == []


@pytest.fixture(scope="module")
def running_stripe() -> Iterator[LocalStripe]:
    """A local Stripe for the tests of a module."""
    with local_stripe() as running:
        yield running


@pytest.fixture
def months(rated_database: Database, rated_service: Service, running_stripe: LocalStripe) -> Months:
    """Books with an empty database and an empty Stripe."""
    running_stripe.control.reset()
    return Months(rated_database, rated_service, running_stripe)


@pytest.fixture
def api(rated_service: Service) -> Iterator[Api]:
    """An API on a database of this test's own."""
    with signed_in(rated_service) as running:
        yield running


@pytest.fixture(scope="module")
def shared_api(services: Services, rated_template: Template) -> Iterator[Api]:
    """One API for the tests of a module that leave nothing behind."""
    with clone(services, rated_template) as database, database.service() as built, signed_in(built) as running:
        yield running


@pytest.fixture(scope="session")
def seeded(services: Services, rated_template: Template) -> Iterator[Seeded]:
    """Two months of a dozen customers; the first is closed, pushed and compared, a line edited at Stripe."""
    with (
        clone(services, rated_template) as database,
        local_stripe() as stripe,
        database.service() as built,
        signed_in(built) as running,
    ):
        yield build_seeded(running, stripe, database)
