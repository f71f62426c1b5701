"""How the service does: due streams, backlog, workers, freshness of totals, sizes of tables."""

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


# A worker tells every ten seconds, or when its longest look at the database is over.
ALIVE_WITHIN = timedelta(minutes=1)
# Above it, counting would take longer than the number is worth.
_COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersSeen:
    """How many workers live, when one was last seen (None: never), and what all that ever were have done."""

    alive: int
    seen_at: datetime | None
    batches: int
    streams: int
    batch_time: timedelta


_WORKERS = text(
    """
    SELECT count(*) FILTER (WHERE seen_at >= :alive_since) AS alive, max(seen_at) AS seen_at,
           CAST(coalesce(sum(batches), 0) AS bigint) AS batches,
           CAST(coalesce(sum(streams), 0) AS bigint) AS streams,
           coalesce(sum(batch_time), interval '0') AS batch_time
    FROM worker_heartbeats
    """
)


def workers_seen(connection: Connection, *, now: datetime) -> WorkersSeen:
    """The workers of this deployment."""
    row = connection.execute(_WORKERS, {"alive_since": now - ALIVE_WITHIN}).one()
    return WorkersSeen(**row._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsFreshness:
    """When totals were rolled up last (None: never), and how many sums have become pending since.

    Totals are exact all the same; the more is pending, the longer they take to read.
    """

    rolled_up_at: datetime | None
    pending: int


_FRESHNESS = text(
    f"""
    SELECT (SELECT rolled_up_at FROM totals_rolled_up) AS rolled_up_at,
           (SELECT count(*) FROM (SELECT FROM totals_pending LIMIT {_COUNTED}) AS counted) AS pending
    """
)


def totals_freshness(connection: Connection) -> TotalsFreshness:
    """How fresh the totals are. Counts what is pending up to 100,000."""
    return TotalsFreshness(**connection.execute(_FRESHNESS).one()._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Sizes in bytes; row counts are the planner's estimates, which cost nothing to read."""

    server_version: str
    database_bytes: int
    journal_bytes: int
    journal_from: datetime | None
    journal_until: datetime | None
    streams: int
    charges: int


_INVENTORY = text(
    """
    SELECT current_setting('server_version') AS server_version,
           pg_database_size(current_database()) AS database_bytes,
           (SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits
            WHERE inhparent = 'journal'::regclass) AS journal_bytes,
           (SELECT min(to_timestamp(right(inhrelid::regclass::text, 7), 'YYYY_MM')) FROM pg_inherits
            WHERE inhparent = 'journal'::regclass) AS journal_from,
           (SELECT max(to_timestamp(right(inhrelid::regclass::text, 7), 'YYYY_MM')) + interval '1 month'
            FROM pg_inherits WHERE inhparent = 'journal'::regclass) AS journal_until,
           (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'streams'::regclass) AS streams,
           (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'charges'::regclass) AS charges
    """
)


def take_inventory(connection: Connection) -> Inventory:
    """What there is now."""
    return Inventory(**connection.execute(_INVENTORY).one()._mapping)


_OLDEST_DUE = text("SELECT min(due_at) FROM streams WHERE due_at <= :now")


def finalizing_behind(connection: Connection, *, now: datetime) -> timedelta:
    """How long the longest waiting stream has been due; zero when none is."""
    oldest: datetime | None = connection.execute(_OLDEST_DUE, {"now": now}).scalar_one()
    return now - oldest if oldest is not None else timedelta(0)
