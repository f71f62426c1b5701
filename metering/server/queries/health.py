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
# Each state alone, so that many streams in one do not hide those in another; both indexes are partial.
_STATES = text(
    """
    SELECT wanted.state, found.streams
    FROM (VALUES ('orphaned'), ('unpriced'), ('conflicting')) AS wanted (state)
    CROSS JOIN LATERAL (SELECT count(*) AS streams FROM (
        SELECT FROM streams s WHERE s.state IN ('orphaned', 'unpriced', 'conflicting') AND s.state = wanted.state
        LIMIT 100000) AS counted) AS found
    UNION ALL
    SELECT state, count(*) FROM (
        SELECT state FROM streams WHERE due_at IS NOT NULL AND state IN ('open', 'ended') LIMIT 100000) AS counted
    GROUP BY state
    """
)


def work_health(connection: Connection, *, now: datetime) -> WorkHealth:
    """The finalizer's backlog and the streams that are not final, by state. Counts each up to 100,000."""
    due = connection.execute(_DUE, {"now": now}).one()
    return WorkHealth(
        due=due.due,
        oldest_due_age=now - due.oldest if due.oldest else timedelta(0),
        states={row.state: row.streams for row in connection.execute(_STATES) if row.streams},
    )
