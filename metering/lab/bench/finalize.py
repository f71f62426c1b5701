"""`metering bench finalize`: finalizes ended streams; the floor is a bare COPY and UPDATE of the same rows."""

from datetime import datetime, timedelta
from time import perf_counter, sleep
from typing import Any

import msgspec
import psycopg

from metering.core.clock import utc_now
from metering.db.engine import service_conninfo
from metering.db.rows import json_keys
from metering.events.wire.decode import decode_json
from metering.lab.bench.machine import Machine, cpu_seconds, describe_machine
from metering.lab.bench.stage import Say, Stage, Stages, stage
from metering.lab.bench.workload import Workload, play, write_script
from metering.ledger.store.charges import COPY_PLAIN, PLAIN_COLUMNS
from metering.streams.ingest.fold import fold_wire
from metering.streams.store.streams import UPSERT, upsert_parameters

_ADD_CUSTOMERS = """
INSERT INTO customers (customer_id, created_at)
SELECT DISTINCT customer_id, now() FROM json_to_recordset(%(rows)s::json) AS joined (customer_id text)
ON CONFLICT DO NOTHING
"""
_REOPEN = """
UPDATE streams SET state = 'ended', due_at = now() + interval '1 day', revision = NULL
"""
_BARE_UPDATE = """
UPDATE streams s SET state = 'finalized', due_at = NULL, revision = 0
FROM json_to_recordset(%s::json) AS m (customer_id text, stream_id text)
WHERE s.customer_id = m.customer_id AND s.stream_id = m.stream_id
"""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One run with some worker processes; CPU time and WAL are per stream."""

    workers: int
    streams: int
    streams_per_second: float
    worker_cpu_microseconds: float
    postgres_cpu_microseconds: float
    wal_bytes: float


class FinalizeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench finalize`; `ratio` is one worker's rate divided by the floor's."""

    machine: Machine
    batch: int
    rows: list[Row]
    bare_streams_per_second: float
    ratio: float


def bench_finalize(
    *, streams: int, say: Say, stages: Stages = stage, lead: timedelta = timedelta(seconds=10)
) -> FinalizeReport:
    """Run one worker process, the floor with the charges that it booked, then two worker processes.

    `lead` is the time that the workers are given to start.
    """
    with stages() as running:
        batch = running.service.settings.finalize_batch
        rows = [_run(running, workers=1, streams=streams, lead=lead, say=say)]
        bare = _bare(running, batch)
        say(f"bare COPY + UPDATE: {bare:,.0f} streams/s")
    with stages() as running:
        rows.append(_run(running, workers=2, streams=streams, lead=lead, say=say))
        return FinalizeReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            batch=batch,
            rows=rows,
            bare_streams_per_second=bare,
            ratio=rows[0].streams_per_second / bare,
        )


def _run(running: Stage, *, workers: int, streams: int, lead: timedelta, say: Say) -> Row:
    pids = [running.start_worker() for _ in range(workers)]
    due_at = _fill(running, streams, lead)
    _sleep_until(due_at)
    running.nudge()
    parts = [*pids, running.pid_of("postgres")]
    cpu, wal = [cpu_seconds(pid) for pid in parts], running.wal_bytes()
    began = perf_counter()
    running.wait_until_nothing_is_due()
    took = perf_counter() - began
    spent = [cpu_seconds(pid) - before for pid, before in zip(parts, cpu, strict=True)]
    row = Row(
        workers=workers,
        streams=streams,
        streams_per_second=streams / took,
        worker_cpu_microseconds=sum(spent[:-1]) / streams * 1e6,
        postgres_cpu_microseconds=spent[-1] / streams * 1e6,
        wal_bytes=(running.wal_bytes() - wal) / streams,
    )
    say(f"{workers} worker: {row.streams_per_second:,.0f} streams/s")
    return row


def _fill(running: Stage, streams: int, lead: timedelta) -> datetime:
    """Store ended streams that all become due at the same time, which is returned."""
    workload = Workload(events_per_request=4_000, open_streams=200, events_per_stream=4)
    script = write_script(workload, requests=5, seed=1)
    due_at = utc_now() + lead + timedelta(seconds=streams / 5_000)
    left, turn = streams, 0
    with psycopg.connect(service_conninfo(running.database_url), autocommit=True) as connection:
        while left:
            for body in play(script, connection=1, turn=turn):
                ended = [
                    facts
                    for facts in fold_wire(decode_json(body).events, received_at=None).values()
                    if facts.end and facts.start
                ]
                parameters = upsert_parameters(
                    ended[:left],
                    first_received_at=due_at,
                    received_at=due_at,
                    abandon_after=running.service.settings.abandon_after,
                )
                connection.execute(_ADD_CUSTOMERS, parameters)
                connection.execute(UPSERT, parameters)
                left -= len(ended[:left])
            turn += 1
    running.execute("VACUUM (ANALYZE) streams")
    running.execute("CHECKPOINT")
    return due_at


def _sleep_until(moment: datetime) -> None:
    sleep(max(0.0, (moment - utc_now()) / timedelta(seconds=1)))


def _bare(running: Stage, batch: int) -> float:
    """Streams per second of the same charges, written with only a COPY and an UPDATE in each transaction."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        columns = ", ".join(name if name != "lines" else "lines::text" for name in PLAIN_COLUMNS)
        charges: list[tuple[Any, ...]] = connection.execute(f"SELECT {columns} FROM charges".encode()).fetchall()
        connection.execute("TRUNCATE charges CASCADE")
        connection.execute(_REOPEN)
        connection.execute("VACUUM (ANALYZE) streams")
        connection.execute("CHECKPOINT")
    batches = [charges[first : first + batch] for first in range(0, len(charges), batch)]
    keys = [json_keys((row[0], row[1]) for row in rows) for rows in batches]
    with psycopg.connect(service_conninfo(running.database_url), autocommit=True) as connection:
        began = perf_counter()
        for rows, key in zip(batches, keys, strict=True):
            with connection.transaction(), connection.cursor() as cursor:
                with cursor.copy(COPY_PLAIN) as copy:
                    for row in rows:
                        copy.write_row(row)
                cursor.execute(_BARE_UPDATE, (key,))
        return len(charges) / (perf_counter() - began)
