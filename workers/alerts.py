"""Alerts in a worker: evaluate the kinds that are due, then send the webhooks that are, within a bound.

One at a time in a process; several processes share the work by the rows that they claim.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from metering.alerts.alerts import AlertKind
from metering.alerts.announce_budgets import announce_exhausted, announce_refusals
from metering.alerts.budget_messages import BUDGET_EXHAUSTED, HOLD_REFUSED
from metering.alerts.evaluate_alerts import evaluate_alerts, prune_alert_log
from metering.alerts.send_webhooks import WebhookSender, send_due
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError
from metering.server.bootstrap import Service
from metering.server.outgoing import build_webhook_sender
from workers.deadlines import Deadlines

log = logging.getLogger(__name__)

# What takes longer is left to the next message, or to the worker's next look.
MAX_SECONDS = 30.0
# Posts at once in a process, and to one endpoint.
_THREADS, _EACH = 16, 4


class _Evaluation(Protocol):
    @property
    def more(self) -> bool: ...


class _Evaluate(Protocol):
    def __call__(self, *, engine: Engine, every: timedelta, now: datetime) -> _Evaluation | None: ...


_KINDS: Mapping[str, _Evaluate] = {
    **{kind.value: partial(evaluate_alerts, kind=kind) for kind in AlertKind},
    BUDGET_EXHAUSTED: announce_exhausted,
    HOLD_REFUSED: announce_refusals,
}


class Alerts:
    """Evaluating alerts and sending webhooks for one process. Errors are logged, and the work is tried again."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service
        self._evaluating, self._sending = threading.Lock(), threading.Lock()
        self._sender: WebhookSender | None = None
        self._deadlines = Deadlines()

    def evaluate_due(self) -> None:
        """Evaluate each kind of alert and of announcement that is due. When one kind fails, the others go on."""
        if not self._evaluating.acquire(blocking=False):
            return
        try:
            until = monotonic() + MAX_SECONDS
            for kind in _KINDS:
                try:
                    self._evaluate(self._service(), kind, until)
                except (SQLAlchemyError, MeteringError) as error:
                    facts = {"kind": kind, "error": str(error).splitlines()[0]}
                    log.error("evaluating alerts failed, will retry", extra=facts)
                    if isinstance(error, DatabaseUnavailableError):
                        return
        finally:
            self._evaluating.release()

    def send_due(self) -> None:
        """Send until nothing is due or the time is up. What fails at a receiver is recorded, not logged."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            until = monotonic() + MAX_SECONDS
            while monotonic() < until and self._send(self._service()):
                pass
        except (SQLAlchemyError, MeteringError) as error:
            log.error("sending webhooks failed, will retry", extra={"error": str(error).splitlines()[0]})
        finally:
            self._sending.release()

    def _send(self, service: Service) -> bool:
        """Send some of the due webhooks; whether there were any."""
        if self._sender is None:  # built once, since it reads the trusted certificates
            self._sender = build_webhook_sender(service)
        with self._deadlines.attempt(service, "sending webhooks") as attempt:
            sender = replace(self._sender, engine=attempt.engine)
            return bool(send_due(sender=sender, threads=_THREADS, each=_EACH))

    def _evaluate(self, service: Service, kind: str, until: float) -> None:
        settings = service.settings
        while monotonic() < until:
            # Each kind for itself: one that is slow is not fast because another one is.
            with self._deadlines.attempt(service, f"evaluating alerts of {kind}") as attempt:
                found = _KINDS[kind](engine=attempt.engine, every=settings.alerts_every, now=utc_now())
            if found is None:
                return
            with self._deadlines.attempt(service, "pruning alerts") as attempt:
                prune_alert_log(engine=attempt.engine, retention=settings.alerts_retention, now=utc_now())
            if not found.more:
                return
