"""SQL that writes heartbeats: each worker adds to its row what it did since its last one.

The rows of silent workers are merged into one, so that rows stay few and the sums never decrease.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

# A worker that returns later starts a new row. No sum changes, because heartbeats contain differences.
_GONE_AFTER = timedelta(minutes=10)
_GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDone:
    """Finalized batches: their number, their streams, and the time that they took, each summed."""

    batches: int = 0
    streams: int = 0
    batch_time: timedelta = timedelta(0)

    def __add__(self, other: "WorkDone") -> "WorkDone":
        return WorkDone(
            batches=self.batches + other.batches,
            streams=self.streams + other.streams,
            batch_time=self.batch_time + other.batch_time,
        )


_ADD = """
    ON CONFLICT (worker_id) DO UPDATE SET seen_at = GREATEST(w.seen_at, excluded.seen_at),
        batches = w.batches + excluded.batches, streams = w.streams + excluded.streams,
        batch_time = w.batch_time + excluded.batch_time
"""
_WRITE = text(
    f"""
    INSERT INTO worker_heartbeats AS w (worker_id, host, started_at, seen_at, batches, streams, batch_time)
    VALUES (:worker_id, :host, :started_at, :now, :batches, :streams, :batch_time) {_ADD}
    WHERE w.seen_at < excluded.seen_at
    """
)
# One statement, so that readers neither miss rows nor count them twice. Concurrent workers skip locked rows.
_MERGE_GONE = text(
    f"""
    WITH gone AS (
        DELETE FROM worker_heartbeats WHERE worker_id IN (
            SELECT worker_id FROM worker_heartbeats WHERE seen_at < :before AND worker_id <> '{_GONE}'
            ORDER BY worker_id FOR UPDATE SKIP LOCKED)
        RETURNING started_at, seen_at, batches, streams, batch_time
    )
    INSERT INTO worker_heartbeats AS w (worker_id, host, started_at, seen_at, batches, streams, batch_time)
    SELECT '{_GONE}', '', min(started_at), max(seen_at), sum(batches), sum(streams), sum(batch_time)
    FROM gone HAVING count(*) > 0 {_ADD}
    """
)


def write_heartbeat(
    connection: Connection,
    *,
    worker_id: str,
    host: str,
    started_at: datetime,
    now: datetime,
    done: WorkDone,
) -> None:
    """Record that a worker is alive, and what it did since its last heartbeat.

    `now` grows with each heartbeat of a worker: one that is written twice with the same time is counted once.
    """
    connection.execute(
        _WRITE,
        {
            "worker_id": worker_id,
            "host": host,
            "started_at": started_at,
            "now": now,
            "batches": done.batches,
            "streams": done.streams,
            "batch_time": done.batch_time,
        },
    )
    connection.execute(_MERGE_GONE, {"before": now - _GONE_AFTER})
