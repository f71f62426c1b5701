"""The composition root: builds the parts of the service from the settings."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from metering.core.errors import MeteringError
from metering.db.engine import check_safe, owner_engine, service_engine
from metering.db.schema import check_usable
from metering.months.statements.usage_statement import Issuer
from metering.prices.store.book import PriceBooks
from metering.server.embedded.data_dir import Services, default_data_dir, find_running
from metering.server.settings import Settings
from metering.streams.settlement import WaitingTimes


class NotConfiguredError(MeteringError):
    """A setting that this command needs is missing."""


# More than a batch of a worker takes on a busy machine; what needs longer gets METERING_STATEMENT_TIMEOUT.
QUICK_STATEMENT_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all parts of a running service share.

    `quick_engine` reaches the same database with short deadlines, for statements that normally take a moment.
    """

    settings: Settings
    engine: Engine
    quick_engine: Engine
    price_books: PriceBooks
    waits: WaitingTimes

    def dispose(self) -> None:
        """Close the connections that are not in use."""
        self.engine.dispose()
        self.quick_engine.dispose()


def build_service(settings: Settings, *, pool_size: int = 5) -> Service:
    """Build the service on the configured database, after checking that the database is current and safe.

    Raises:
        NotConfiguredError: no database is configured, and no `metering up` runs.
        DatabaseUnavailableError, SchemaOutdatedError, SchemaTooNewError, UnsafeDatabaseError: see db/.
    """
    engine, quick = (
        service_engine(database_url(settings), pool_size=pool_size, statement_timeout=time, idle_timeout=time)
        for time in (settings.statement_timeout, QUICK_STATEMENT_TIMEOUT)
    )
    check_usable(quick)
    check_safe(quick)
    return _service(settings, engine, quick)


# Some requests need a second connection for a moment.
_SPARE_CONNECTIONS = 2


def build_api_service(settings: Settings) -> Service:
    """Build the service of an API process. It starts without a database, which `DatabaseWatch` then waits for.

    Raises:
        NotConfiguredError: no database is configured, and no `metering up` runs.
    """
    engine = service_engine(
        database_url(settings),
        pool_size=settings.concurrent_reads + _SPARE_CONNECTIONS,
        overflow=0,
        wait=settings.read_wait,
        statement_timeout=settings.read_timeout,
        idle_timeout=settings.read_timeout,
        sums=True,
    )
    return _service(settings, engine, engine)


def _service(settings: Settings, engine: Engine, quick: Engine) -> Service:
    return Service(
        settings=settings,
        engine=engine,
        quick_engine=quick,
        price_books=PriceBooks(),
        waits=WaitingTimes(
            abandon_after=settings.abandon_after,
            start_grace=settings.start_grace,
            retry_window=settings.retry_window,
        ),
    )


def issuer(settings: Settings) -> Issuer:
    """The issuer of usage statements."""
    lines = [line.strip() for line in settings.issuer_address.split(";")]
    return Issuer(name=settings.issuer_name, address=[line for line in lines if line])


def build_owner_engine(settings: Settings) -> Engine:
    """An engine with the owner's login, for migrations.

    Raises:
        NotConfiguredError: no database is configured, and no `metering up` runs.
    """
    return owner_engine(owner_url(settings))


def owner_url(settings: Settings) -> str:
    """METERING_MIGRATION_DATABASE_URL, or else the URL of the database.

    Raises:
        NotConfiguredError: no database is configured, and no `metering up` runs.
    """
    if settings.migration_database_url is not None:
        return settings.migration_database_url.get_secret_value()
    return database_url(settings)


def database_url(settings: Settings) -> str:
    """METERING_DATABASE_URL, or the database of the `metering up` that runs on the data folder.

    Raises:
        NotConfiguredError: neither exists.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return _running("METERING_DATABASE_URL", settings).database_url


def redis_url(settings: Settings) -> str:
    """METERING_REDIS_URL, or the queue of the `metering up` that runs on the data folder.

    Raises:
        NotConfiguredError: neither exists.
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
