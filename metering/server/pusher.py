"""The part of the composition root that builds the pusher to Stripe, apart: Stripe's SDK takes long to import."""

from redis import Redis

from metering.core.clock import utc_now
from metering.core.ids import digest
from metering.server.bootstrap import NotConfiguredError, Service, redis_url
from metering.server.embedded.data_dir import default_data_dir, find_running
from metering.server.outgoing import LOCAL_STRIPE_KEY
from metering.server.settings import Settings
from metering.stripe.client.client import StripeClientPort
from metering.stripe.client.limiter import Limiter, Rates
from metering.stripe.client.patience import IMPATIENT, Patience
from metering.stripe.push_due import Pusher
from metering.stripe.push_invoice import PushTerms

_LIVE_RATES, _TEST_RATES, _LOCAL_RATES = (
    Rates(in_all=80, per_endpoint=20),
    Rates(in_all=20, per_endpoint=20),
    Rates(in_all=2_000, per_endpoint=2_000),
)


def build_pusher(service: Service, *, patience: Patience = IMPATIENT) -> Pusher:
    """Build the pusher to Stripe, or to the local stand-in. Its calls are made again as `patience` says.

    Raises:
        NotConfiguredError: STRIPE_API_KEY is not set, and no local stand-in runs.
    """
    settings = service.settings
    key, base = _stripe_access(settings)
    redis = Redis.from_url(redis_url(settings), socket_timeout=2, socket_connect_timeout=2)
    limiter = Limiter(redis=redis, name=digest(key, base or ""), rates=_rates(settings, key, base))
    return Pusher(
        engine=service.engine,
        port=StripeClientPort(api_key=key, api_base=base, limiter=limiter, patience=patience),
        terms=PushTerms(
            environment=settings.environment,
            collect=settings.stripe_collect,
            days_until_due=settings.stripe_days_until_due,
            keep_manual_lines=settings.stripe_keep_manual_lines,
        ),
        clock=utc_now,
    )


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
