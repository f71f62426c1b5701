"""Announce budgets: the messages that a budget is exhausted, and that holds were refused.

Each of the two has a row that a worker locks, as a kind of alert has; other workers skip it.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from metering.alerts.budget_messages import BUDGET_EXHAUSTED, HOLD_REFUSED, exhausted_message, refused_message
from metering.alerts.queries.crossings import find_exhausted
from metering.alerts.store.alerts import claim_evaluation, postpone_evaluation
from metering.alerts.store.deliveries import add_deliveries
from metering.alerts.store.exhausted import add_exhausted
from metering.budgets.refusals import minute_of
from metering.budgets.store.refusals import take_refusals
from metering.db.engine import transaction

log = logging.getLogger(__name__)

# The most messages of one transaction; the next one follows at once.
MAX_ANNOUNCED = 10_000
# A minute is announced this long after its end: holds of its last moment are committed by then.
_GRACE = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """The result of one look: new messages, their deliveries, and whether there may be more."""

    messages: int
    deliveries: int
    more: bool


def announce_exhausted(
    *, engine: Engine, every: timedelta, now: datetime, limit: int = MAX_ANNOUNCED
) -> Announcement | None:
    """Announce the budgets of which all is spent, once for each window and limit.

    None when it is not due yet, or another worker does it.
    """
    with transaction(engine) as connection:
        if not claim_evaluation(connection, kind=BUDGET_EXHAUSTED, now=now):
            return None
        found = find_exhausted(connection, now=now, limit=limit)
        new = add_exhausted(connection, found, now=now)
        deliveries = add_deliveries(connection, [exhausted_message(each, now=now) for each in new], now=now)
        more = len(found) >= limit
        postpone_evaluation(connection, kind=BUDGET_EXHAUSTED, due_at=now if more else now + every, now=now)
    if new:
        log.warning("budgets exhausted", extra={"budgets": len(new), "deliveries": deliveries})
    return Announcement(messages=len(new), deliveries=deliveries, more=more)


def announce_refusals(
    *, engine: Engine, every: timedelta, now: datetime, limit: int = MAX_ANNOUNCED
) -> Announcement | None:
    """Announce the holds that were refused in the minutes that are over, one message for each budget and minute.

    None when it is not due yet, or another worker does it. It is due right after the end of a minute.
    """
    with transaction(engine) as connection:
        if not claim_evaluation(connection, kind=HOLD_REFUSED, now=now):
            return None
        refusals = take_refusals(connection, before=minute_of(now - _GRACE), limit=limit)
        deliveries = add_deliveries(connection, [refused_message(each, now=now) for each in refusals], now=now)
        more = len(refusals) >= limit
        due_at = now if more else minute_of(now + every) + _GRACE
        postpone_evaluation(connection, kind=HOLD_REFUSED, due_at=due_at, now=now)
    return Announcement(messages=len(refusals), deliveries=deliveries, more=more)
