"""Months in the workers: close what a run wants closed, and push what is due, each within a bound.

One at a time in a process; several processes share the work by the rows that they claim.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.months.close_months import close_step
from metering.months.run_invoices import CLOSE_BATCH, begin_scheduled_run
from metering.months.store.runs import finish_run, open_run
from metering.server.bootstrap import NotConfiguredError, Service, build_pusher, close_terms
from metering.stripe.client.errors import StripeUnauthorizedError
from metering.stripe.push import PushState
from metering.stripe.push_due import PUSH_THREADS, Pusher, push_due
from metering.stripe.reconcile import reconcile_newest_month

log = logging.getLogger(__name__)

# What takes longer is left to the next message, or the poller's next look.
MAX_SECONDS = 30.0
# A key that Stripe does not accept is not tried again every second.
_REFUSED_SECONDS = 60.0

_one_at_a_time = threading.Lock()
_pushers: dict[int, Pusher | None] = {}
_refused_at = float("-inf")


def work_on_months(service: Callable[[], Service]) -> None:
    """Close, then push, until nothing is left or the time is up. What fails is logged, and tried again."""
    if not _one_at_a_time.acquire(blocking=False):
        return
    try:
        until = monotonic() + MAX_SECONDS
        _close(service(), until)
        _push(service(), until)
    except (SQLAlchemyError, MeteringError, RedisError) as error:
        log.error("work on months failed; it is tried again", extra={"error": str(error).splitlines()[0]})
    finally:
        _one_at_a_time.release()


def begin_last_month(service: Callable[[], Service]) -> None:
    """Have the last month closed, by itself, once its grace is over for somebody."""
    if not service().settings.close_automatically:
        return
    run = begin_scheduled_run(engine=service().engine, terms=close_terms(service().settings), now=utc_now())
    if run is not None:
        log.info("a month is closed", extra={"period": str(run.period), "run_id": run.run_id})
        work_on_months(service)


def reconcile_if_due(service: Callable[[], Service]) -> None:
    """Compare the newest invoiced month with Stripe, when it is time again. What fails is logged."""
    pusher = _pusher_of(service())
    if pusher is None:
        return
    try:
        reconcile_newest_month(pusher=pusher, every=service().settings.reconcile_every)
    except (SQLAlchemyError, MeteringError, RedisError) as error:
        log.error("reconciling failed; it is tried again", extra={"error": str(error).splitlines()[0]})


def _close(service: Service, until: float) -> None:
    while monotonic() < until:
        with transaction(service.engine) as connection:
            run = open_run(connection)
        if run is None:
            return
        step = close_step(
            engine=service.engine,
            run=run,
            terms=close_terms(service.settings),
            now=utc_now(),
            limit=CLOSE_BATCH,
        )
        if step.refused:
            log.warning("months stay open", extra={"period": str(run.period), "customers": step.refused})
        if step.done:
            with transaction(service.engine) as connection:
                finish_run(connection, run.run_id, now=utc_now())


def _push(service: Service, until: float) -> None:
    global _refused_at
    pusher = _pusher_of(service)
    if pusher is None or monotonic() - _refused_at < _REFUSED_SECONDS:
        return
    try:
        while monotonic() < until:
            states = push_due(pusher=pusher, limit=PUSH_THREADS, threads=PUSH_THREADS)
            if not states:
                return
            log.info("pushed", extra={state.value: count for state, count in states.items()})
            if stuck := states.get(PushState.STUCK, 0):
                log.warning("invoices need a person", extra={"stuck": stuck})
    except StripeUnauthorizedError as error:
        _refused_at = monotonic()
        log.error("Stripe does not accept STRIPE_API_KEY", extra={"error": str(error)})


def _pusher_of(service: Service) -> Pusher | None:
    """Built once; None without a Stripe, when invoices wait."""
    if id(service) not in _pushers:
        try:
            _pushers[id(service)] = build_pusher(service)
        except NotConfiguredError as error:
            log.info("invoices are not pushed", extra={"why": str(error)})
            _pushers[id(service)] = None
    return _pushers[id(service)]
