"""Alerts in the workers: evaluate the kinds that are due, then send the webhooks that are, within a bound.

One at a time in a process; several processes share the work by the rows that they claim.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError

from metering.alerts.alerts import AlertKind
from metering.alerts.evaluate_alerts import evaluate_alerts, let_go_of_alert_log
from metering.alerts.send_webhooks import Courier, send_due
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError
from metering.server.bootstrap import Service, build_courier

log = logging.getLogger(__name__)

# What takes longer is left to the next message, or the poller's next look.
MAX_SECONDS = 30.0
# So many posts at once in a process, and so many of them to one endpoint.
_THREADS, _EACH = 16, 4

_evaluating, _sending = threading.Lock(), threading.Lock()
_couriers: dict[int, Courier] = {}


def evaluate_due_alerts(service: Callable[[], Service]) -> None:
    """Evaluate each kind of alert that is due. What fails is logged, and tried again; other kinds go on."""
    if not _evaluating.acquire(blocking=False):
        return
    try:
        until = monotonic() + MAX_SECONDS
        for kind in AlertKind:
            try:
                _evaluate(service(), kind, until)
            except (SQLAlchemyError, MeteringError) as error:
                told = {"kind": kind.value, "error": str(error).splitlines()[0]}
                log.error("evaluating alerts failed; it is tried again", extra=told)
                if isinstance(error, DatabaseUnavailableError):
                    return
    finally:
        _evaluating.release()


def send_due_webhooks(service: Callable[[], Service]) -> None:
    """Send until nothing is due or the time is up. What fails at a receiver is recorded; the rest is logged."""
    if not _sending.acquire(blocking=False):
        return
    try:
        until = monotonic() + MAX_SECONDS
        courier = _courier(service())
        while monotonic() < until and send_due(courier=courier, threads=_THREADS, each=_EACH):
            pass
    except (SQLAlchemyError, MeteringError) as error:
        log.error("sending webhooks failed; it is tried again", extra={"error": str(error).splitlines()[0]})
    finally:
        _sending.release()


def _evaluate(service: Service, kind: AlertKind, until: float) -> None:
    settings, engine = service.settings, service.engine
    while monotonic() < until:
        found = evaluate_alerts(engine=engine, kind=kind, every=settings.alerts_every, now=utc_now())
        if found is None:
            return
        let_go_of_alert_log(engine=engine, retention=settings.alerts_retention, now=utc_now())
        if not found.more:
            return


def _courier(service: Service) -> Courier:
    """Built once, for it reads the trusted certificates."""
    if id(service) not in _couriers:
        _couriers[id(service)] = build_courier(service)
    return _couriers[id(service)]
