"""Months in a worker: close the months of open runs, push due invoices, and reconcile, each within a time limit.

A process does one at a time; several processes share the work by claiming rows.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from redis.exceptions import RedisError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.months.keep_rates import add_missing_rates
from metering.months.run_invoices import begin_scheduled_run, close_steps
from metering.months.store.runs import open_run
from metering.server.bootstrap import NotConfiguredError, Service
from metering.server.outgoing import close_terms
from metering.server.pusher import build_pusher
from metering.stripe.client.errors import StripeUnauthorizedError
from metering.stripe.push import PushState
from metering.stripe.push_due import Pusher, push_round
from metering.stripe.queries.pushes import has_due_push
from metering.stripe.reconcile import reconcile_newest_month
from workers.deadlines import Deadlines

log = logging.getLogger(__name__)

# After this long the rest is left to the next message or the next poll.
MAX_SECONDS = 30.0
# After Stripe refuses the key, pushing pauses for this long.
_REFUSED_SECONDS = 60.0


class Months:
    """Closing, pushing and reconciling for one process. Errors are logged, and the work is tried again."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._working = threading.Lock()
        self._deadlines = Deadlines()
        self._pusher: Pusher | None = None
        self._pusher_built = False
        self._refused_at = float("-inf")

    def work(self) -> None:
        """Close, then push, until nothing is left or the time is up."""
        if not self._working.acquire(blocking=False):
            return
        try:
            until = monotonic() + MAX_SECONDS
            self._close(self._service(), until)
            self._push(self._service(), until)
        except (SQLAlchemyError, MeteringError, RedisError) as error:
            log.error("closing or pushing failed, will retry", extra={"error": str(error).splitlines()[0]})
        finally:
            self._working.release()

    def begin_last_month(self) -> None:
        """Start to close the last month once its grace is over for a customer, unless this is switched off."""
        service = self._service()
        if not service.settings.close_automatically:
            return
        run = begin_scheduled_run(engine=service.engine, terms=close_terms(service.settings), now=utc_now())
        if run is not None:
            log.info("closing a month", extra={"period": str(run.period), "run_id": run.run_id})
            self.work()

    def add_missing_rates(self) -> None:
        """Add the rates of invoices that older code made, for at most MAX_SECONDS."""
        until = monotonic() + MAX_SECONDS
        try:
            added = add_missing_rates(engine=self._service().engine, may_go_on=lambda: monotonic() < until)
        except (SQLAlchemyError, MeteringError) as error:
            log.error("adding rates failed, will retry", extra={"error": str(error).splitlines()[0]})
            return
        if added:
            log.info("rates of older invoices added", extra={"invoices": added})

    def reconcile_if_due(self) -> None:
        """Compare the newest invoiced month with Stripe, if that is due."""
        service = self._service()
        pusher = self._pusher_of(service)
        if pusher is None:
            return
        try:
            reconcile_newest_month(pusher=pusher, every=service.settings.reconcile_every)
        except (SQLAlchemyError, MeteringError, RedisError) as error:
            log.error("reconciling failed, will retry", extra={"error": str(error).splitlines()[0]})

    def _close(self, service: Service, until: float) -> None:
        terms = close_terms(service.settings)
        while monotonic() < until:
            with self._look(service) as connection:
                run = open_run(connection)
            if run is None:
                return
            for step in close_steps(engine=service.engine, run=run, terms=terms, clock=utc_now):
                if step.refused:
                    log.warning("months stay open", extra={"period": str(run.period), "customers": step.refused})
                if monotonic() >= until:
                    return

    def _push(self, service: Service, until: float) -> None:
        pusher = self._pusher_of(service)
        if pusher is None or monotonic() - self._refused_at < _REFUSED_SECONDS:
            return
        with self._look(service) as connection:
            if not has_due_push(connection, now=utc_now()):
                return
        try:
            while monotonic() < until and (states := push_round(pusher=pusher)):
                log.info("pushed", extra={state.value: count for state, count in states.items()})
                if stuck := states.get(PushState.STUCK, 0):
                    log.warning("invoices need attention", extra={"stuck": stuck})
        except StripeUnauthorizedError as error:
            self._refused_at = monotonic()
            log.error("Stripe does not accept STRIPE_API_KEY", extra={"error": str(error)})

    @contextmanager
    def _look(self, service: Service) -> Iterator[Connection]:
        """A transaction that finds out whether there is work: soon over, on whatever link."""
        with (
            self._deadlines.attempt(service, "looking for months") as attempt,
            transaction(attempt.engine) as connection,
        ):
            yield connection

    def _pusher_of(self, service: Service) -> Pusher | None:
        """The pusher, built once; None without a Stripe key."""
        if not self._pusher_built:
            try:
                self._pusher = build_pusher(service)
            except NotConfiguredError as error:
                log.info("invoices are not pushed", extra={"why": str(error)})
            self._pusher_built = True
        return self._pusher
