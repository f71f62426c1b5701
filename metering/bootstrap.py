"""The composition root: from settings to the parts that run."""

from dataclasses import dataclass

from sqlalchemy import Engine

from metering.config import Settings
from metering.domain.errors import MeteringError
from metering.domain.settlement import Patience
from metering.store.engine import check_safe, owner_engine, service_engine
from metering.store.rates import RateBooks
from metering.store.schema import check_current


class NotConfiguredError(MeteringError):
    """A setting that this command needs is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What every part of the running service shares."""

    settings: Settings
    engine: Engine
    rate_books: RateBooks
    patience: Patience


def build_service(settings: Settings, *, pool_size: int = 5) -> Service:
    """A service on the configured database, which has been checked to be current and safe.

    Raises:
        NotConfiguredError: METERING_DATABASE_URL is missing.
        DatabaseUnavailableError, SchemaOutdatedError, UnsafeDatabaseError: see store/.
    """
    engine = service_engine(database_url(settings), pool_size=pool_size)
    check_current(engine)
    check_safe(engine)
    return Service(
        settings=settings,
        engine=engine,
        rate_books=RateBooks(),
        patience=Patience(abandon_after=settings.abandon_after, start_grace=settings.start_grace),
    )


def build_owner_engine(settings: Settings) -> Engine:
    """An engine that may migrate.

    Raises:
        NotConfiguredError: METERING_DATABASE_URL is missing.
    """
    if settings.migration_database_url is not None:
        return owner_engine(settings.migration_database_url.get_secret_value())
    return owner_engine(database_url(settings))


def database_url(settings: Settings) -> str:
    """METERING_DATABASE_URL.

    Raises:
        NotConfiguredError: it is missing.
    """
    if settings.database_url is None:
        raise NotConfiguredError("METERING_DATABASE_URL is not set: give it, or use `metering up`")
    return settings.database_url.get_secret_value()


def redis_url(settings: Settings) -> str:
    """METERING_REDIS_URL.

    Raises:
        NotConfiguredError: it is missing.
    """
    if settings.redis_url is None:
        raise NotConfiguredError("METERING_REDIS_URL is not set: give it, or use `metering up`")
    return settings.redis_url.get_secret_value()
