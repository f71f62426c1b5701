"""Top-ups in a worker: buy those that are due, and bring the invoices of grants to Stripe."""

import logging
from collections.abc import Callable
from time import monotonic

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.credits.buy_top_ups import buy_top_ups
from metering.server.bootstrap import NotConfiguredError, Service
from metering.server.pusher import build_pusher
from metering.stripe.client.errors import StripeUnauthorizedError
from metering.stripe.invoice_grants import invoice_grants
from metering.stripe.push_due import Pusher
from workers.deadlines import Deadlines

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
# After Stripe refuses the key, nothing is sent for this long.
_REFUSED_SECONDS = 60.0
_AT_ONCE = 20


class TopUps:
    """Buying and invoicing grants for one process. Errors are logged, and the work is tried again."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._deadlines = Deadlines()
        self._next_at = float("-inf")
        self._pusher: Pusher | None = None
        self._pusher_built = False

    def work(self) -> None:
        """Buy what is due, then go on with the invoices of grants, every few seconds."""
        if monotonic() < self._next_at:
            return
        self._next_at = monotonic() + EVERY_SECONDS
        try:
            service = self._service()
            pusher = self._pusher_of(service)
            if pusher is None:
                return
            with self._deadlines.attempt(service, "buying top-ups") as attempt:
                if bought := buy_top_ups(engine=attempt.engine, now=utc_now()):
                    log.info("top-ups bought", extra={"top_ups": bought})
            while invoice_grants(pusher=pusher, limit=_AT_ONCE) == _AT_ONCE:
                pass
        except StripeUnauthorizedError as error:
            self._next_at = monotonic() + _REFUSED_SECONDS
            log.error("Stripe does not accept STRIPE_API_KEY", extra={"error": str(error)})
        except (SQLAlchemyError, MeteringError, RedisError) as error:
            log.error("topping up failed, will retry", extra={"error": str(error).splitlines()[0]})

    def _pusher_of(self, service: Service) -> Pusher | None:
        """What reaches Stripe, built once; None without a Stripe key: then nothing is bought either."""
        if not self._pusher_built:
            try:
                self._pusher = build_pusher(service)
            except NotConfiguredError as error:
                log.info("no top-ups are bought", extra={"why": str(error)})
            self._pusher_built = True
        return self._pusher
