"""Evaluate alerts in one transaction: find the thresholds reached, store the occurrences, add webhook deliveries.

Each kind of alert has a row that a worker locks, and other workers skip. Evaluating twice is harmless: the key of
an occurrence allows it once.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from metering.alerts.alerts import AlertKind
from metering.alerts.deliveries import Message
from metering.alerts.messages import Crossing, Occurrence, message_body, occurrence_of
from metering.alerts.queries.crossings import find_crossings
from metering.alerts.store.alerts import (
    add_occurrences,
    claim_evaluation,
    postpone_evaluation,
    prune_occurrences,
)
from metering.alerts.store.deliveries import add_deliveries, prune_deliveries
from metering.alerts.store.endpoints import prune_secrets
from metering.alerts.store.exhausted import prune_exhausted
from metering.db.engine import transaction
from metering.db.locks import Lock, try_to_take

log = logging.getLogger(__name__)

# The most crossings in one transaction; the next evaluation follows at once and finds the rest. Finding them sums
# the amounts of all customers, however few there are to find.
MAX_CROSSINGS = 100_000
_STORED_AT_ONCE = 5_000
# The most rows of a table that one pruning removes.
_MAX_PRUNED = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of one evaluation: new occurrences, their deliveries, and whether there may be more."""

    kind: AlertKind
    occurrences: int
    deliveries: int
    more: bool


def evaluate_alerts(
    *, engine: Engine, kind: AlertKind, every: timedelta, now: datetime, limit: int = MAX_CROSSINGS
) -> Evaluation | None:
    """Evaluate the alerts of a kind. None when it is not due yet, or another worker is evaluating it."""
    with transaction(engine) as connection:
        if not claim_evaluation(connection, kind=kind.value, now=now):
            return None
        crossings = find_crossings(connection, kind=kind, now=now, limit=limit)
        occurrences, deliveries = _store(connection, crossings, now)
        more = len(crossings) >= limit
        postpone_evaluation(connection, kind=kind.value, due_at=now if more else now + every, now=now)
    if occurrences:
        facts = {"kind": kind.value, "occurrences": occurrences, "deliveries": deliveries}
        log.warning("alerts fired", extra=facts)
    return Evaluation(kind=kind, occurrences=occurrences, deliveries=deliveries, more=more)


def _store(connection: Connection, crossings: Sequence[Crossing], now: datetime) -> tuple[int, int]:
    """Add what is new of these crossings; returns how many occurrences and deliveries.

    While PostgreSQL stores some, the next are made: the connection is used by one thread at a time.
    """
    stored: list[Future[tuple[int, int]]] = []
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="alerts") as beside:
        for start in range(0, len(crossings), _STORED_AT_ONCE):
            some = crossings[start : start + _STORED_AT_ONCE]
            made = [(each, _message(each)) for each in (occurrence_of(crossing, now=now) for crossing in some)]
            if stored:
                stored[-1].result()
            stored.append(beside.submit(_store_some, connection, made, now))
        counts = [each.result() for each in stored]
    return sum(count for count, _ in counts), sum(count for _, count in counts)


def _store_some(
    connection: Connection, made: Sequence[tuple[Occurrence, Message]], now: datetime
) -> tuple[int, int]:
    new = {each.message_id for each in add_occurrences(connection, [occurrence for occurrence, _ in made])}
    messages = [message for occurrence, message in made if occurrence.message_id in new]
    return len(new), add_deliveries(connection, messages, now=now)


def prune_alert_log(*, engine: Engine, retention: timedelta, now: datetime) -> int:
    """Remove some of the occurrences, deliveries and exhausted budgets past their retention; returns how many.

    Does nothing while another process prunes.
    """
    before = now - retention
    with transaction(engine) as connection:
        if not try_to_take(connection, Lock.ALERT_PRUNING):
            return 0
        prune_secrets(connection, now=now)
        return sum(
            prune(connection, before=before, limit=_MAX_PRUNED)
            for prune in (prune_deliveries, prune_occurrences, prune_exhausted)
        )


def _message(occurrence: Occurrence) -> Message:
    type = occurrence.crossing.alert.terms.kind.message_type
    return Message(
        message_id=occurrence.message_id,
        type=type,
        customer_id=occurrence.crossing.customer_id,
        body=message_body(type=type, at=occurrence.occurred_at, data=occurrence.data),
    )
