"""The floor of ingest: the same folded batches and journal rows, written with bare psycopg and without HTTP.

Decoding, folding and compressing happen before the clock starts. The measured time is that of PostgreSQL and
psycopg, for one transaction after the other on one connection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import psycopg

from metering.core.clock import utc_now
from metering.db.engine import service_conninfo
from metering.events.store import INSERT_JOURNAL, JournalEntry, journal_columns, stream_hashes
from metering.events.wire.bodies import pack_body
from metering.events.wire.decode import decode_json
from metering.lab.bench.stage import Stage
from metering.lab.bench.workload import Workload, play, write_script
from metering.streams.ingest.fold import fold_wire
from metering.streams.store.streams import UPSERT, upsert_parameters
from metering.streams.stream import StreamFacts, join_all


@dataclass(frozen=True, slots=True)
class _Batch:
    """The rows of one transaction."""

    entries: Sequence[JournalEntry]
    facts: Sequence[StreamFacts]


def bare_events_per_second(
    stage: Stage, workload: Workload, *, events: int, requests_per_commit: int, seed: int
) -> float:
    """The events per second that one connection writes, with `requests_per_commit` as the ingest writer had."""
    count = max(20, events // (workload.events_per_request * requests_per_commit))
    batches = _batches(workload, requests_per_commit, count, seed)
    written = sum(entry.event_count for batch in batches for entry in batch.entries)
    with psycopg.connect(service_conninfo(stage.database_url), autocommit=True) as connection:
        began = perf_counter()
        for batch in batches:
            _write(connection, batch, stage)
        return written / (perf_counter() - began)


def _batches(workload: Workload, requests_per_commit: int, count: int, seed: int) -> list[_Batch]:
    scripts = [
        list(play(write_script(workload, requests=count, seed=place), connection=seed, turn=place))
        for place in range(requests_per_commit)
    ]
    return [_batch([script[turn] for script in scripts]) for turn in range(count)]


def _batch(bodies: Sequence[bytes]) -> _Batch:
    entries: list[JournalEntry] = []
    parts: list[StreamFacts] = []
    for body in bodies:
        events = decode_json(body).events
        received_at = utc_now()
        streams = fold_wire(events, received_at=received_at)
        parts.extend(streams.values())
        entries.append(
            JournalEntry(
                ingest_key_id="floor",
                received_at=received_at,
                media_type="application/json",
                event_count=len(events),
                rejected=None,
                body=pack_body(body),
                stream_hashes=stream_hashes(streams),
            )
        )
    return _Batch(entries, list(join_all(parts).values()))


def _write(connection: psycopg.Connection, batch: _Batch, stage: Stage) -> None:
    now = utc_now()
    with connection.pipeline(), connection.transaction(), connection.cursor() as cursor:
        cursor.execute(INSERT_JOURNAL, journal_columns(batch.entries))
        cursor.execute(
            UPSERT,
            upsert_parameters(
                batch.facts,
                first_received_at=now,
                received_at=now,
                abandon_after=stage.service.settings.abandon_after,
            ),
        )
