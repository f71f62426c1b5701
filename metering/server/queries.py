"""Read the health of the service: due streams, backlog, workers, freshness of totals, sizes of tables."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, TextClause, text

from metering.db.citus import on_citus
from metering.streams.bill import Flag
from metering.streams.settlement import NEEDS_PERSON, State
from metering.streams.store.streams import IN_BACKLOG


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkHealth:
    """`oldest_due_age` is how long the oldest due stream has been due; zero if none is due."""

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


# Each state is counted separately, so that the limit applies to each; both indexes are partial.
def _count_of(state: State) -> str:
    return f"""
        SELECT '{state.value}' AS state, count(*) AS streams FROM (
            SELECT 1 AS one FROM streams s WHERE {IN_BACKLOG} AND s.state = '{state.value}' LIMIT 100000
        ) AS counted
    """


_STATES = text(
    f"""
    {" UNION ALL ".join(map(_count_of, NEEDS_PERSON))}
    UNION ALL
    SELECT state, count(*) FROM (
        SELECT state FROM streams WHERE due_at IS NOT NULL AND state IN ('open', 'ended') LIMIT 100000) AS counted
    GROUP BY state
    """
)


def work_health(connection: Connection, *, now: datetime) -> WorkHealth:
    """The due streams, and the streams that are not final by state. Each count stops at 100,000."""
    due = connection.execute(_DUE, {"now": now}).one()
    return WorkHealth(
        due=due.due,
        oldest_due_age=now - due.oldest if due.oldest else timedelta(0),
        states={row.state: row.streams for row in connection.execute(_STATES) if row.streams},
    )


_FLAGGED = text(
    """
    SELECT flag, count(*) AS bills FROM (
        (SELECT flags FROM charges WHERE flags <> '{}' AND booked_at >= :since ORDER BY booked_at LIMIT 100000)
        UNION ALL
        (SELECT flags FROM adjustments WHERE flags <> '{}' AND booked_at >= :since ORDER BY booked_at LIMIT 100000)
    ) AS flagged CROSS JOIN unnest(flags) AS flag GROUP BY flag
    """
)


def flagged_bills(connection: Connection, *, since: datetime) -> dict[Flag, int]:
    """How many charges and adjustments that were booked since then have each flag, of 100,000 of each at most."""
    found = {row.flag: row.bills for row in connection.execute(_FLAGGED, {"since": since})}
    return {flag: found.get(flag.value, 0) for flag in Flag}


# Workers write a heartbeat every ten seconds, or after at most 30 seconds of finalizing.
ALIVE_WITHIN = timedelta(minutes=1)
# An exact count above this is not worth its time.
_COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersSeen:
    """How many workers are alive, when one was last seen (None: never), and the sums over all workers ever."""

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
    """The state of this deployment's workers."""
    row = connection.execute(_WORKERS, {"alive_since": now - ALIVE_WITHIN}).one()
    return WorkersSeen(**row._mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsFreshness:
    """When totals were last rolled up (None: never), and how many sums are pending.

    Totals are always exact, but take longer to read with more pending sums.
    """

    rolled_up_at: datetime | None
    pending: int


_FRESHNESS = text(
    f"""
    SELECT (SELECT rolled_up_at FROM totals_rolled_up) AS rolled_up_at,
           (SELECT count(*) FROM (SELECT 1 AS one FROM totals_pending LIMIT {_COUNTED}) AS counted) AS pending
    """
)


def totals_freshness(connection: Connection) -> TotalsFreshness:
    """The freshness of totals. The count of pending sums stops at 100,000."""
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


def _inventory(database: str, partition: str, rows: str) -> TextClause:
    return text(
        f"""
        SELECT current_setting('server_version') AS server_version, {database} AS database_bytes,
               (SELECT coalesce(sum({partition}(inhrelid)), 0)::bigint FROM pg_inherits
                WHERE inhparent = 'journal'::regclass) AS journal_bytes,
               (SELECT min(to_timestamp(right(inhrelid::regclass::text, 7), 'YYYY_MM')) FROM pg_inherits
                WHERE inhparent = 'journal'::regclass) AS journal_from,
               (SELECT max(to_timestamp(right(inhrelid::regclass::text, 7), 'YYYY_MM')) + interval '1 month'
                FROM pg_inherits WHERE inhparent = 'journal'::regclass) AS journal_until,
               {rows.format("streams")} AS streams, {rows.format("charges")} AS charges
        """
    )


_INVENTORY = _inventory(
    "pg_database_size(current_database())",
    "pg_total_relation_size",
    "(SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = '{0}'::regclass)",
)
_OF_NODES = "(SELECT coalesce(sum(result::bigint) FILTER (WHERE success), 0)::bigint FROM {0})"
_INVENTORY_ON_CITUS = _inventory(
    _OF_NODES.format("run_command_on_all_nodes($$SELECT pg_database_size(current_database())$$)"),
    "citus_total_relation_size",
    _OF_NODES.format(
        """run_command_on_workers($$SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint
        FROM pg_class WHERE relkind = 'r' AND relname ~ '^{0}_[0-9]+$'$$)"""
    ),
)


def take_inventory(connection: Connection) -> Inventory:
    """The current version, sizes and row counts of the database."""
    statement = _INVENTORY_ON_CITUS if on_citus(connection) else _INVENTORY
    return Inventory(**connection.execute(statement).one()._mapping)


_OLDEST_DUE = text("SELECT min(due_at) FROM streams WHERE due_at <= :now")


def finalizing_behind(connection: Connection, *, now: datetime) -> timedelta:
    """How long the oldest due stream has been due; zero if none is due."""
    oldest: datetime | None = connection.execute(_OLDEST_DUE, {"now": now}).scalar_one()
    return now - oldest if oldest is not None else timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The PostgreSQL server: its version, the login of this connection, and its clock."""

    version: str
    login: str
    now: datetime


_SERVER = text(
    "SELECT current_setting('server_version') AS version, current_user AS login, clock_timestamp() AS now"
)


def server_facts(connection: Connection) -> ServerFacts:
    """Facts of the server, read now."""
    return ServerFacts(**connection.execute(_SERVER).one()._mapping)
