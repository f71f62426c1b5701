"""How commands ask Stripe: again and again for a while, and with a clear end when it is given up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metering.server.terminal.output import say
from metering.stripe.client.errors import StripeThrottledError, StripeUncertainError
from metering.stripe.client.patience import Patience

# About 20 seconds in all, or as long as Stripe asks for.
_STRIPE_TRIES = 7


def stripe_patience() -> Patience:
    """How often commands ask Stripe again; each wait is said on stderr."""
    return Patience(tries=_STRIPE_TRIES, on_wait=lambda what, wait: say(f"{what}; asking again in {wait:g} s"))


@contextmanager
def tell_what_is_done(what: Callable[[], str]) -> Iterator[None]:
    """When Stripe is given up in the block, the error also says what was done and what was not."""
    try:
        yield
    except (StripeUncertainError, StripeThrottledError) as error:
        raise type(error)(f"{error}; Stripe was asked {_STRIPE_TRIES} times: {what()}") from error
