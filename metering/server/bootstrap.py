"""The composition root: builds the parts of the service from the settings."""

import gc
from dataclasses import dataclass

from redis import Redis
from sqlalchemy import Engine

from metering.alerts.send_webhooks import WebhookSender
from metering.alerts.transport import WebhookTransport
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.core.ids import digest
from metering.db.engine import check_safe, owner_engine, service_engine
from metering.db.schema import check_current
from metering.months.close_months import CloseTerms
from metering.months.statements.usage_statement import Issuer
from metering.prices.store.book import PriceBooks
from metering.server.embedded.data_dir import Services, default_data_dir, find_running
from metering.server.settings import Settings
from metering.streams.settlement import Patience
from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.limiter import Limiter, Rates
from metering.stripe.push_due import Pusher
from metering.stripe.push_invoice import PushTerms
from metering.stripe.store.pushes import add_pushes


class NotConfiguredError(MeteringError):
    """A setting that this command needs is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all parts of a running service share."""

    settings: Settings
    engine: Engine
    price_books: PriceBooks
    patience: Patience


def build_service(settings: Settings, *, pool_size: int = 5) -> Service:
    """Build the service on the configured database, after checking that the database is current and safe.

    Raises:
        NotConfiguredError: no database is configured, and no `metering up` runs.
        DatabaseUnavailableError, SchemaOutdatedError, UnsafeDatabaseError: see db/.
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


# The key for the local Stripe stand-in, which accepts any key of the right form.
LOCAL_STRIPE_KEY = "sk_test_local"
_LIVE_RATES, _TEST_RATES, _LOCAL_RATES = (
    Rates(in_all=80, per_endpoint=20),
    Rates(in_all=20, per_endpoint=20),
    Rates(in_all=2_000, per_endpoint=2_000),
)


def build_pusher(service: Service) -> Pusher:
    """Build the pusher to Stripe, or to the local stand-in.

    Raises:
        NotConfiguredError: STRIPE_API_KEY is not set, and no local stand-in runs.
    """
    settings = service.settings
    key, base = _stripe_access(settings)
    redis = Redis.from_url(redis_url(settings), socket_timeout=2, socket_connect_timeout=2)
    limiter = Limiter(redis=redis, name=digest(key, base or ""), rates=_rates(settings, key, base))
    return Pusher(
        engine=service.engine,
        port=StripeClientPort(api_key=key, api_base=base, limiter=limiter),
        terms=PushTerms(
            environment=settings.environment,
            collect=settings.stripe_collect,
            days_until_due=settings.stripe_days_until_due,
            keep_manual_lines=settings.stripe_keep_manual_lines,
        ),
        clock=utc_now,
    )


def build_webhook_sender(service: Service) -> WebhookSender:
    """The webhook sender."""
    settings = service.settings
    return WebhookSender(
        engine=service.engine,
        transport=WebhookTransport(
            allow_private=settings.webhooks_allow_private, timeout=settings.webhooks_timeout
        ),
        clock=utc_now,
        disable_after=settings.webhooks_disable_after,
    )


def close_terms(settings: Settings) -> CloseTerms:
    """The terms by which months are closed."""
    return CloseTerms(
        grace=settings.close_grace, minimum_cents=settings.invoice_minimum_cents, hand_over=add_pushes
    )


def issuer(settings: Settings) -> Issuer:
    """The issuer of usage statements."""
    lines = [line.strip() for line in settings.issuer_address.split(";")]
    return Issuer(name=settings.issuer_name, address=[line for line in lines if line])


def _stripe_access(settings: Settings) -> tuple[str, str | None]:
    if settings.stripe_api_key is not None:
        return settings.stripe_api_key.get_secret_value(), settings.stripe_api_base
    running = find_running(settings.data or default_data_dir()) if settings.database_url is None else None
    if running is None or running.stripe_url is None:
        raise NotConfiguredError("STRIPE_API_KEY is not set: invoices are created, but not pushed until it is")
    return LOCAL_STRIPE_KEY, running.stripe_url


def _rates(settings: Settings, key: str, base: str | None) -> Rates:
    if (limit := settings.stripe_requests_per_second) is not None:
        return Rates(in_all=limit, per_endpoint=limit)
    if base is not None:
        return _LOCAL_RATES
    return _LIVE_RATES if "_live_" in key else _TEST_RATES


def freeze_collector(*, young_objects: int | None = None) -> None:
    """Exclude all current objects from garbage collection; it runs after `young_objects` new ones if given."""
    gc.collect()
    gc.freeze()
    if young_objects is not None:
        gc.set_threshold(young_objects, *gc.get_threshold()[1:])


def build_owner_engine(settings: Settings) -> Engine:
    """An engine with the owner's login, for migrations.

    Raises:
        NotConfiguredError: no database is configured, and no `metering up` runs.
    """
    if settings.migration_database_url is not None:
        return owner_engine(settings.migration_database_url.get_secret_value())
    return owner_engine(database_url(settings))


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
