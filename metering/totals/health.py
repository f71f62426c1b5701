"""How the work stands: what is due, what waits for a person, how fresh the totals are."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkHealth:
    """`oldest_due_age` is how long the longest waiting due stream has been due; zero when none is."""

    due: int
    oldest_due_age: timedelta
    states: dict[str, int]


_DUE = text(
    """
    SELECT count(*) AS due, min(due_at) AS oldest FROM (
        SELECT due_at FROM streams WHERE due_at <= :now ORDER BY due_at LIMIT 100000
    ) AS waiting
    """
)
_STATES = text(
    """
    SELECT state, count(*) AS streams FROM streams
    WHERE state IN ('orphaned', 'unpriced', 'conflicting') GROUP BY state
    UNION ALL
    SELECT state, count(*) FROM streams
    WHERE due_at IS NOT NULL AND state IN ('open', 'ended') GROUP BY state
    """
)


def work_health(connection: Connection, *, now: datetime) -> WorkHealth:
    """The finalizer's backlog and the streams that are not final, by state. Counts due streams up to 100,000."""
    due = connection.execute(_DUE, {"now": now}).one()
    return WorkHealth(
        due=due.due,
        oldest_due_age=now - due.oldest if due.oldest else timedelta(0),
        states={row.state: row.streams for row in connection.execute(_STATES)},
    )
