"""Finalize until nothing is due, within a bound; link retries and roll totals up every few seconds.

Two batches at a time in a process: one computes while the other waits for PostgreSQL.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.ledger.finalize_due import FinalizeResult, finalize_due
from metering.ledger.link_retries import link_retries
from metering.ledger.store.rollups import roll_up_totals
from metering.server.bootstrap import Service
from metering.streams.settlement import NEEDS_PERSON
from workers.signs import count_batch

log = logging.getLogger(__name__)

# A task that runs longer than this leaves the rest to the next message.
MAX_SECONDS = 30.0

# A retry that was booked before what it repeats is linked as soon as that is safe.
LINK_SECONDS = 1.0
# Totals are right without rolling up, and read from ever more rows.
ROLL_UP_SECONDS = 10.0
_after = threading.Lock()
_linked_at = _rolled_up_at = 0.0

# More would only wait for each other: the work is half Python's, of which one thread runs at a time.
_at_a_time = threading.BoundedSemaphore(2)
_calling = threading.Lock()
_helper: threading.Thread | None = None


def drain(service: Callable[[], Service], *, newest_first: bool = False) -> None:
    """Finalize batch after batch until none is due.

    What goes wrong with the database is logged, not raised: whoever calls, calls again in a second. Nudges come
    often; a call while enough are running returns at once, since those look again anyway.
    """
    try:
        _drain(service(), newest_first=newest_first)
    except (SQLAlchemyError, MeteringError) as error:
        log.error("finalizing failed; it is tried again", extra={"error": str(error).splitlines()[0]})


def _drain(service: Service, *, newest_first: bool = False) -> None:
    started = monotonic()
    batch = service.settings.finalize_batch
    while monotonic() - started < MAX_SECONDS:
        if not _at_a_time.acquire(blocking=False):
            return
        began = monotonic()
        try:
            result = finalize_due(
                engine=service.engine,
                price_books=service.price_books,
                patience=service.patience,
                now=utc_now(),
                limit=batch,
                newest_first=newest_first,
            )
        finally:
            _at_a_time.release()
        if result.claimed:
            count_batch(streams=result.claimed, seconds=monotonic() - began)
            _report(result)
        _aftermath(service)
        if result.claimed < batch:
            return
        _call_helper(service)


def _call_helper(service: Service) -> None:
    """There is more than one batch: have a second thread begin at the other end meanwhile."""
    global _helper
    if not _calling.acquire(blocking=False):
        return
    try:
        if _helper is None or not _helper.is_alive():
            _helper = threading.Thread(
                target=drain,
                args=(lambda: service,),
                kwargs={"newest_first": True},
                name="finalizer",
                daemon=True,
            )
            _helper.start()
    finally:
        _calling.release()


def _aftermath(service: Service) -> None:
    """Link retries and roll totals up, in a thread beside the batches: after many bookings it takes seconds."""
    if monotonic() - _linked_at >= LINK_SECONDS and not _after.locked():
        threading.Thread(target=_link_and_roll_up, args=(service,), name="aftermath", daemon=True).start()


def _link_and_roll_up(service: Service) -> None:
    global _linked_at, _rolled_up_at
    if not _after.acquire(blocking=False):
        return
    try:
        _link(service)
        _linked_at = monotonic()
        if monotonic() - _rolled_up_at >= ROLL_UP_SECONDS:
            roll_up_totals(service.engine)
            _rolled_up_at = monotonic()
    except SQLAlchemyError as error:
        log.error("what follows bookings failed; it is tried again", extra={"error": str(error).splitlines()[0]})
    finally:
        _after.release()


def _link(service: Service) -> None:
    linked = link_retries(
        engine=service.engine,
        window=service.patience.retry_window,
        now=utc_now(),
        limit=service.settings.finalize_batch,
    )
    if linked:
        log.info("retries are finalized anew, linked to what they repeat", extra={"streams": linked})


def _report(result: FinalizeResult) -> None:
    log.info(
        "finalized",
        extra={"streams": result.claimed, "charged": result.charged, "adjusted": result.adjusted},
    )
    for state in NEEDS_PERSON:
        if count := result.states.get(state, 0):
            log.warning("streams need a person", extra={"state": state.value, "streams": count})
