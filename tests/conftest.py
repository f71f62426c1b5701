"""What every test may use: a real PostgreSQL and a real Valkey for the session, a fresh database for each test."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from metering.bootstrap import Service, build_service
from metering.config import Settings
from metering.embedded.data_dir import ephemeral_data_dir
from metering.embedded.services import Services, embedded_services
from metering.embedded.supervisor import Supervisor
from metering.store.engine import owner_engine
from metering.store.schema import migrate

TEMPLATE = "metering_template"
_numbers = itertools.count(1)


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


@pytest.fixture
def database(services: Services) -> Iterator[Database]:
    """A fresh clone of the migrated database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        yield Database(database_url(services, name), services.redis_url)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def service(database: Database) -> Iterator[Service]:
    """The service on a fresh database."""
    built = build_service(database.settings())
    yield built
    built.engine.dispose()


@pytest.fixture
def engine(service: Service) -> Engine:
    """The service's connections, with its privileges only."""
    return service.engine
