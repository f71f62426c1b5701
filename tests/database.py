"""A database of a test's own: a clone of a migrated template on the session's server."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import psycopg
from pydantic import SecretStr
from sqlalchemy import make_url

from metering.db.engine import owner_engine
from metering.db.migrate import migrate
from metering.prices.store.book import PriceBooks
from metering.prices.store.cards import SourcedRateCard
from metering.server.bootstrap import Service, build_api_service, build_service
from metering.server.embedded.data_dir import Services
from metering.server.embedded.supervisor import Supervisor
from metering.server.settings import Settings
from tests.cluster import Cluster
from tests.memory import in_memory
from tests.owner import leave

# A PostgreSQL to test on instead of the session's own, by `make test-on`.
GIVEN_URL = os.environ.get("METERING_TEST_DATABASE_URL")

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Template:
    """A database to copy, and the rate cards that are in it."""

    name: str
    cards: tuple[SourcedRateCard, ...] = ()


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database of a test's own. `url` logs in as the superuser; the service gives that up."""

    url: str
    redis_url: str
    cards: tuple[SourcedRateCard, ...] = ()

    def settings(self, **overrides: object) -> Settings:
        """Settings that point at this database, and at the session's Valkey."""
        return Settings.model_validate(
            {"database_url": SecretStr(self.url), "redis_url": SecretStr(self.redis_url), **overrides}
        )

    @contextmanager
    def service(self, *, for_api: bool = False, **overrides: object) -> Iterator[Service]:
        """The service on this database until the block ends. It is given the cards, which take time to read."""
        build = build_api_service if for_api else build_service
        service = replace(build(self.settings(**overrides)), price_books=PriceBooks(self.cards))
        yield service
        service.dispose()


@dataclass(frozen=True, slots=True)
class Servers:
    """The session's PostgreSQL and Valkey, and their supervisor."""

    services: Services
    supervisor: Supervisor


def database_url(running: Services, name: str) -> str:
    """How to reach another database of the session's server."""
    if GIVEN_URL is None:
        # As it is: tests find the folder of the server's socket in it.
        return running.database_url.replace("/metering?", f"/{name}?")
    return make_url(running.database_url).set(database=name).render_as_string(hide_password=False)


@cache
def _cluster() -> Cluster | None:
    """The Citus cluster that was given, if it is one."""
    if GIVEN_URL is None:
        return None
    with psycopg.connect(GIVEN_URL) as connection:
        found = connection.execute("SELECT FROM pg_extension WHERE extname = 'citus'").fetchone()
    return None if found is None else Cluster(GIVEN_URL)


def is_cluster() -> bool:
    """Whether the tests run on Citus."""
    return _cluster() is not None


@contextmanager
def clone(running: Services, template: Template) -> Iterator[Database]:
    """A copy of a template, gone when the block ends."""
    if (cluster := _cluster()) is not None:
        name = cluster.checkout(template.name)
        yield Database(cluster.database_url(name), running.redis_url, template.cards)
        leave(cluster.database_url(name))
        cluster.give_back(name)
        return
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield copy(running, template, name=name)
    leave(database_url(running, name))
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def copy(running: Services, template: Template, *, name: str) -> Database:
    """A copy of a template that lasts as long as its server."""
    if (cluster := _cluster()) is not None:
        built = cluster.build(template.name, name=name)
        return Database(cluster.database_url(built), running.redis_url, template.cards)
    leave(database_url(running, template.name))
    # Files are copied fast in memory; on a disk that would wait for a checkpoint, and the log is faster.
    strategy = "FILE_COPY" if in_memory() else "WAL_LOG"
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template.name} STRATEGY {strategy}")
    return Database(database_url(running, name), running.redis_url, template.cards)


def make_empty(running: Services, *, name: str) -> None:
    """Make the template that is migrated and empty; a cluster makes its own."""
    if _cluster() is not None:
        return
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    engine = owner_engine(database_url(running, name))
    migrate(engine)
    engine.dispose()
