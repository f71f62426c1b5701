"""Run the audit: fold the journal into a spool, put what is stored beside it, and compare part after part."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, Engine

from metering.audit.checks import BOOKING_CHECKS
from metering.audit.difference import Difference, stream_key
from metering.audit.invoice_checks import INVOICE_CHECKS
from metering.audit.journaled import JournaledStream, JournalFold, Key, join_journaled
from metering.audit.price_history import PriceHistory
from metering.audit.spool import Spool
from metering.audit.stored import (
    AuditedStream,
    count_streams,
    iterate_stored,
    received_within,
    stored_from_document,
)
from metering.audit.streams import compare_stream, is_pending
from metering.audit.total_checks import TOTAL_CHECKS
from metering.core.period import BillingPeriod
from metering.db.engine import snapshot
from metering.events.queries import CLOCK_MARGIN, count_journaled, iterate_journal, journal_begins
from metering.streams.stream import StreamFacts

# How many differences are kept to be shown; the others are counted.
MAX_SHOWN = 1_000

_UTC = ZoneInfo("UTC")
_ALWAYS = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))

_JOURNALED, _STORED = 0, 1
# So many streams are compared at a time, about 4 kB each.
_STREAMS_A_PART = 20_000
# A file each, all open at once; most systems allow a process 1,024.
_MAX_PARTS = 256

# What is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class AuditReport:
    """What was looked at, and what differs.

    `pending` streams have something that the finalizer has still to look at: their facts were compared, and what
    is booked for them. `before_journal` ones began before the journal does, which METERING_JOURNAL_RETENTION cuts
    off: what is stored of them was taken as it is.
    """

    requests: int = 0
    events: int = 0
    streams: int = 0
    pending: int = 0
    before_journal: int = 0
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, differences: Iterable[Difference]) -> None:
        """Count these, and keep the first."""
        for difference in differences:
            self.difference_count += 1
            if len(self.differences) < MAX_SHOWN:
                self.differences.append(difference)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """What a run looks at: the period, streams and totals that ended in it, and requests that may be of those."""

    period: BillingPeriod | None
    ended: tuple[datetime, datetime]
    received: tuple[datetime, datetime]

    def has(self, facts: StreamFacts, time_zone: ZoneInfo) -> bool:
        """Whether a stream is of the period."""
        if self.period is None:
            return True
        ended_at = facts.end.event.time if facts.end else facts.last_event_at
        return BillingPeriod.containing(at=ended_at, time_zone=time_zone) == self.period


def audit(
    *,
    engine: Engine,
    now: datetime,
    period: BillingPeriod | None = None,
    scratch: Path | None = None,
    progress: Progress = lambda *_: None,
) -> AuditReport:
    """Derive all that is stored, or all that is of a period, from the journal, and compare.

    It reads one snapshot, and disturbs nobody. `scratch` is a folder with room for about 2 kB a stream; without
    one, the system's for temporary files.
    """
    report = AuditReport()
    with snapshot(engine) as connection:
        scope = _scope(connection, period)
        checks = [*BOOKING_CHECKS, *TOTAL_CHECKS, *INVOICE_CHECKS]
        for number, check in enumerate(checks, start=1):
            progress("checking invariants", number, len(checks))
            report.add(check(connection, *scope.ended))
        with TemporaryDirectory(prefix="metering-audit-", dir=scratch) as folder:
            _compare_streams(connection, scope, Path(folder), report, now, progress)
    return report


def _scope(connection: Connection, period: BillingPeriod | None) -> _Scope:
    if period is None:
        return _Scope(period=None, ended=_ALWAYS, received=_ALWAYS)
    ended = period.in_any_zone
    first, last = received_within(connection, *ended) or ended
    return _Scope(period=period, ended=ended, received=(first - CLOCK_MARGIN, last + CLOCK_MARGIN))


def _compare_streams(
    connection: Connection, scope: _Scope, folder: Path, report: AuditReport, now: datetime, progress: Progress
) -> None:
    begin, end = scope.received
    total = count_streams(connection, begin=begin, end=end)
    with Spool(folder, parts=min(_MAX_PARTS, 1 + total // _STREAMS_A_PART)) as spool:
        _set_down_journal(connection, scope, spool, report, progress)
        stored = iterate_stored(connection, begin=begin, end=end)
        for number, (customer_id, stream_id, document) in enumerate(stored, start=1):
            spool.add(customer_id, stream_id, kind=_STORED, record=document.encode())
            progress("reading streams", number, total)
        comparison = _Comparison(scope, PriceHistory(connection), journal_begins(connection), now, report)
        for records in spool.parts():
            comparison.compare(records)
            progress("comparing streams", report.streams, total)


def _set_down_journal(
    connection: Connection, scope: _Scope, spool: Spool, report: AuditReport, progress: Progress
) -> None:
    begin, end = scope.received
    total = count_journaled(connection, begin=begin, end=end)
    fold = JournalFold()
    for stream in fold.streams(iterate_journal(connection, begin=begin, end=end)):
        facts = stream.facts
        spool.add(facts.customer_id, facts.stream_id, kind=_JOURNALED, record=msgspec.msgpack.encode(stream))
        progress("folding the journal's events", fold.events, total)
    report.requests, report.events = fold.requests, fold.events
    report.add(fold.differences)


_decode_journaled = msgspec.msgpack.Decoder(JournaledStream).decode


@dataclass(frozen=True, slots=True)
class _Comparison:
    scope: _Scope
    history: PriceHistory
    journal_from: datetime
    now: datetime
    report: AuditReport

    def compare(self, records: Iterator[tuple[int, bytes]]) -> None:
        """Compare the streams of one part: the journal's records come before those that are stored."""
        journaled: dict[Key, JournaledStream] = {}
        for kind, record in records:
            if kind == _JOURNALED:
                new = _decode_journaled(record)
                key = (new.facts.customer_id, new.facts.stream_id)
                known = journaled.get(key)
                journaled[key] = new if known is None else join_journaled(known, new)
                continue
            try:
                stored = stored_from_document(record)
            except msgspec.DecodeError as error:
                key = _key_of(record)
                self.report.add(
                    [Difference("streams", stream_key(*key), f"what is stored makes no sense: {error}")]
                )
                journaled.pop(key, None)
                continue
            key = (stored.facts.customer_id, stored.facts.stream_id)
            self._compare(journaled.pop(key, None), stored)
        for key, left in journaled.items():
            if self.scope.has(left.facts, _UTC):
                says = "its events are journaled, and it is not stored"
                self.report.add([Difference("streams", stream_key(*key), says)])

    def _compare(self, journaled: JournaledStream | None, stored: AuditedStream) -> None:
        zone = ZoneInfo(stored.time_zone)
        if not self.scope.has(stored.facts, zone) and not (journaled and self.scope.has(journaled.facts, zone)):
            return
        self.report.streams += 1
        self.report.pending += is_pending(stored, now=self.now)
        self.report.before_journal += stored.first_received_at < self.journal_from
        differences = compare_stream(journaled, stored, history=self.history, journal_from=self.journal_from)
        self.report.add(differences)


class _Facts(msgspec.Struct):
    customer_id: str
    stream_id: str


class _Stored(msgspec.Struct):
    facts: _Facts


def _key_of(document: bytes) -> Key:
    facts = msgspec.json.decode(document, type=_Stored).facts
    return facts.customer_id, facts.stream_id
