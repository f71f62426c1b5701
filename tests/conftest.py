"""What every test may use: a real PostgreSQL and a real Valkey for the session, a fresh database for each test."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import hypothesis
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from metering.db.engine import owner_engine
from metering.db.schema import migrate
from metering.prices.catalogue import read_catalogue
from metering.prices.import_rates import import_rates
from metering.server.bootstrap import Service, build_service
from metering.server.embedded.data_dir import Services, ephemeral_data_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import Supervisor
from metering.server.settings import Settings

TEMPLATE = "metering_template"
RATED_TEMPLATE = "metering_rated_template"
_numbers = itertools.count(1)

# How long an example takes says something of the machine, which others use too, and nothing of the property.
hypothesis.settings.register_profile(
    "metering", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("metering")


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of a test's own. `url` logs in as the superuser; the service gives that up."""

    url: str
    redis_url: str

    def settings(self, **overrides: object) -> Settings:
        """Settings that point at this database, and at the session's Valkey."""
        return Settings.model_validate(
            {"database_url": SecretStr(self.url), "redis_url": SecretStr(self.redis_url), **overrides}
        )


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """The servers themselves, with a migrated database to clone."""
    for name in [name for name in os.environ if name.startswith("METERING_")]:
        if name != "METERING_NODE_MODULES":
            del os.environ[name]
    with (
        ephemeral_data_dir() as data,
        Supervisor(quiet=True) as supervisor,
        embedded_services(data=data, supervisor=supervisor) as running,
    ):
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        engine = owner_engine(database_url(running, TEMPLATE))
        migrate(engine)
        engine.dispose()
        yield running


def database_url(running: Services, name: str) -> str:
    """How to reach another database of the session's server."""
    return running.database_url.replace("/metering?", f"/{name}?")


@contextmanager
def clone(running: Services, template: str) -> Iterator[Database]:
    """A copy of a template database, gone when the block ends."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield Database(database_url(running, name), running.redis_url)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def rated_template(services: Services) -> str:
    """The name of a template that also has the catalogue's rates."""
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {RATED_TEMPLATE} TEMPLATE {TEMPLATE}")
    built = build_service(Database(database_url(services, RATED_TEMPLATE), services.redis_url).settings())
    import_rates(engine=built.engine, catalogue=read_catalogue(), now=datetime(2026, 11, 1, tzinfo=UTC))
    built.engine.dispose()
    return RATED_TEMPLATE


@pytest.fixture
def database(services: Services) -> Iterator[Database]:
    """A fresh, migrated, empty database."""
    with clone(services, TEMPLATE) as cloned:
        yield cloned


@pytest.fixture
def rated_database(services: Services, rated_template: str) -> Iterator[Database]:
    """A fresh database with the catalogue's rates."""
    with clone(services, rated_template) as cloned:
        yield cloned


@pytest.fixture
def service(database: Database) -> Iterator[Service]:
    """The service on an empty database."""
    built = build_service(database.settings())
    yield built
    built.engine.dispose()


@pytest.fixture
def rated_service(rated_database: Database) -> Iterator[Service]:
    """The service on a database with the catalogue's rates."""
    built = build_service(rated_database.settings())
    yield built
    built.engine.dispose()


@pytest.fixture
def engine(service: Service) -> Engine:
    """The service's connections, with its privileges only."""
    return service.engine
