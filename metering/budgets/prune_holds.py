"""Remove closed holds past their retention: each stream with a hold leaves a row, and nothing reads it later."""

from datetime import datetime, timedelta

from sqlalchemy import Engine

from metering.budgets.store.holds import closed_before, note_kept_since, removing_holds
from metering.db.engine import transaction
from metering.db.locks import Lock, try_to_take
from metering.db.together import run_together

# Holds that one call removes: some milliseconds of work.
_MAX_PRUNED = 2_000


def prune_holds(*, engine: Engine, retention: timedelta, now: datetime) -> int:
    """Remove some of the holds that were closed before the retention; return how many.

    Charges, overruns and what budgets have spent stay. Does nothing while another process prunes.
    """
    before = now - retention
    with transaction(engine) as connection:
        if not try_to_take(connection, Lock.HOLD_PRUNING):
            return 0
        old = closed_before(connection, before=before, limit=_MAX_PRUNED)
        if old:
            note_kept_since(connection, before)
            run_together(connection, *removing_holds(old))
    return len(old)
