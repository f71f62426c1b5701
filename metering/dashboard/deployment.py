"""Which deployment a page is of, and whether money moves: shown at the top of every page of staff."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from metering.server.settings import Settings

_OURS = frozenset({"localhost", "127.0.0.1", "::1"})


def deployment_of(settings: Settings) -> Sequence[tuple[str, str]]:
    """The names to show, each with its kind: the environment, and which Stripe it bills with."""
    return (settings.environment, "environment"), _stripe(settings)


def bills_with_stripe(settings: Settings) -> bool:
    """Whether invoices go to Stripe itself, and not to the local stand-in."""
    return _stripe(settings)[1] in ("live", "test")


def _stripe(settings: Settings) -> tuple[str, str]:
    if settings.stripe_api_base is not None and urlsplit(settings.stripe_api_base).hostname in _OURS:
        return "Local Stripe: no money moves", "local"
    if settings.stripe_api_key is None:
        return "No Stripe", "none"
    key = settings.stripe_api_key.get_secret_value()
    return ("Stripe live", "live") if "_live_" in key else ("Stripe test", "test")
