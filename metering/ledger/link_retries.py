"""Link retries: bring an interruption to retries that were booked before it was known.

It is found out late when a stream is swept as abandoned, or its end was delayed; and two finalizers at work at the
same time cannot see what the other one books.
"""

from datetime import datetime, timedelta

from sqlalchemy import Engine

from metering.db.engine import transaction
from metering.streams.store.retries import (
    interruptions_to_link,
    mark_linked,
    set_barriers,
    wake_retries,
)


def link_retries(*, engine: Engine, window: timedelta, now: datetime, limit: int) -> int:
    """Have the retries of newly known interruptions finalized anew; returns how many.

    An interruption is seen in one call and looked up in a later one. The steps are transactions of their own,
    since a finalizer locks streams before interruptions; made twice they do no harm.
    """
    with transaction(engine) as connection:
        found = interruptions_to_link(connection, limit=limit)
        set_barriers(connection, limit=limit)
    woken = 0
    if found:
        with transaction(engine) as connection:
            woken = wake_retries(connection, found, window=window, now=now)
        with transaction(engine) as connection:
            mark_linked(connection, found)
    return woken
