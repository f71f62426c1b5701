"""Link retries: find retries that were booked before the interruption that they repeat was known.

An interruption becomes known late when a stream is swept as abandoned, when its end is delayed, or when another
finalizer books it at the same time and has not committed yet.
"""

from datetime import datetime, timedelta

from sqlalchemy import Engine

from metering.db.citus import on_citus
from metering.db.engine import transaction
from metering.ledger.store.open_periods import wait_for_bookings
from metering.streams.store.retries import (
    interruptions_to_link,
    mark_linked,
    set_barriers,
    wake_retries,
)


def link_retries(*, engine: Engine, window: timedelta, now: datetime, limit: int) -> int:
    """Make the retries of newly known interruptions due again; return how many.

    One call marks an interruption as seen, a later call looks up its retries: by then every transaction that could
    not see the interruption has ended. Each step is a transaction of its own, because a finalizer locks streams
    before interruptions. It does no harm to repeat a step.

    Raises:
        DatabaseUnavailableError: on Citus, a node does not answer, so that its bookings are not known.
    """
    with transaction(engine) as connection:
        found = interruptions_to_link(connection, limit=limit)
        set_barriers(connection, limit=limit)
        is_spread = on_citus(connection)
    woken = 0
    if found:
        if is_spread:
            wait_for_bookings(engine)
        with transaction(engine) as connection:
            woken = wake_retries(connection, found, window=window, now=now)
        with transaction(engine) as connection:
            mark_linked(connection, found)
    return woken
