"""The composition root: from settings to the parts that run."""

import gc
from dataclasses import dataclass

from sqlalchemy import Engine

from metering.config import Settings
from metering.domain.errors import MeteringError
from metering.domain.settlement import Patience
from metering.embedded.data_dir import Services, default_data_dir, find_running
from metering.store.engine import check_safe, owner_engine, service_engine
from metering.store.price_book import PriceBooks
from metering.store.schema import check_current


class NotConfiguredError(MeteringError):
    """A setting that this command needs is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What every part of the running service shares."""

    settings: Settings
    engine: Engine
    price_books: PriceBooks
    patience: Patience


def build_service(settings: Settings, *, pool_size: int = 5) -> Service:
    """A service on the configured database, which has been checked to be current and safe.

    Raises:
        NotConfiguredError: no database is named, and none runs.
        DatabaseUnavailableError, SchemaOutdatedError, UnsafeDatabaseError: see store/.
    """
    engine = service_engine(database_url(settings), pool_size=pool_size)
    check_current(engine)
    check_safe(engine)
    return Service(
        settings=settings,
        engine=engine,
        price_books=PriceBooks(),
        patience=Patience(
            abandon_after=settings.abandon_after,
            start_grace=settings.start_grace,
            retry_window=settings.retry_window,
        ),
    )


def freeze_collector(*, young_objects: int | None = None) -> None:
    """Spare the garbage collector what is loaded by now and stays; `young_objects` sets how seldom it looks."""
    gc.collect()
    gc.freeze()
    if young_objects is not None:
        gc.set_threshold(young_objects, *gc.get_threshold()[1:])


def build_owner_engine(settings: Settings) -> Engine:
    """An engine that may migrate.

    Raises:
        NotConfiguredError: no database is named, and none runs.
    """
    if settings.migration_database_url is not None:
        return owner_engine(settings.migration_database_url.get_secret_value())
    return owner_engine(database_url(settings))


def database_url(settings: Settings) -> str:
    """METERING_DATABASE_URL, or the database of the `metering up` that runs on the data folder.

    Raises:
        NotConfiguredError: there is neither.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return _running("METERING_DATABASE_URL", settings).database_url


def redis_url(settings: Settings) -> str:
    """METERING_REDIS_URL, or the queue of the `metering up` that runs on the data folder.

    Raises:
        NotConfiguredError: there is neither.
    """
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return _running("METERING_REDIS_URL", settings).redis_url


def _running(variable: str, settings: Settings) -> Services:
    data = settings.data or default_data_dir()
    services = find_running(data)
    if services is None:
        raise NotConfiguredError(
            f"{variable} is not set, and no `metering up` runs on {data}: set it, or start one"
        )
    return services
