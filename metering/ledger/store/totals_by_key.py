"""Completes the daily sums by API key, after a release that does not know them has rolled up.

Both releases may run side by side: then the sums are completed now and then, and not read in between.
"""

from datetime import timedelta

from sqlalchemy import Engine, text

from metering.db.engine import transaction
from metering.db.locks import Lock, try_to_take
from metering.ledger.rollups import DAILY, DAILY_BY_KEY, SUMS

# While releases alternate, completing them after each roll-up would take longer than rolling up.
PAUSE = timedelta(minutes=10)

_DUE = text(
    """
    SELECT EXISTS (SELECT FROM totals_rolled_up WHERE keyed_at IS DISTINCT FROM rolled_up_at
                   AND (keyed_at IS NULL OR keyed_at < now() - CAST(:pause AS interval)))
    """
)
_KEY = ", ".join(DAILY_BY_KEY.key)
_STORED, _DERIVED = (", ".join(f"{row}.{name}" for name in SUMS) for row in ("t", "excluded"))
_COMPLETE = text(
    f"""
    INSERT INTO {DAILY_BY_KEY.table} AS t ({_KEY}, {", ".join(SUMS)})
    SELECT {_KEY}, {", ".join(f"sum({name})" for name in SUMS)} FROM {DAILY[-1].table}
    GROUP BY {_KEY} ORDER BY {_KEY}
    ON CONFLICT ({_KEY}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in SUMS)}
    WHERE ({_STORED}) IS DISTINCT FROM ({_DERIVED})
    """
)
_NOTE = text("UPDATE totals_rolled_up SET keyed_at = rolled_up_at")


def complete_totals_by_key(engine: Engine, *, pause: timedelta = PAUSE) -> bool:
    """Make the sums equal those of all dimensions; return whether that was done.

    Does nothing if they do, or did within the `pause`, or while another process rolls up.
    """
    with transaction(engine) as connection:
        due = connection.execute(_DUE, {"pause": pause}).scalar_one()
        if not due or not try_to_take(connection, Lock.ROLL_UP):
            return False
        connection.execute(_COMPLETE)
        connection.execute(_NOTE)
    return True
