"""What workers told of themselves, and how fresh the totals are that they roll up."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

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
    FROM worker_signs
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
