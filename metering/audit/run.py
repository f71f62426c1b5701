"""Run the audit: check the invariants, then compare every stored stream with the journal.

Journaled and stored streams are written to scratch files, all records of one stream to the same file, and compared
file by file, so that memory stays bounded.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection, Engine

from metering.audit.bookings import PriceHistory
from metering.audit.difference import Difference, stream_key
from metering.audit.journaled import JournaledStream, JournalFold, Key, join_journaled
from metering.audit.queries.booking_checks import BOOKING_CHECKS
from metering.audit.queries.budget_checks import BUDGET_CHECKS
from metering.audit.queries.grant_checks import GRANT_CHECKS
from metering.audit.queries.invoice_checks import INVOICE_CHECKS
from metering.audit.queries.log_checks import LOG_CHECKS
from metering.audit.queries.rate_checks import RATE_CHECKS
from metering.audit.queries.stored import (
    AuditedStream,
    count_streams,
    iterate_stored,
    received_within,
    stored_from_document,
)
from metering.audit.queries.total_checks import TOTAL_CHECKS
from metering.audit.streams import compare_stream, is_pending
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.db.engine import read_transaction
from metering.events.queries import (
    CLOCK_MARGIN,
    count_journaled,
    has_request_at,
    iterate_journal,
    journal_start,
)
from metering.events.store import stream_hash
from metering.streams.stream import StreamFacts

# The report keeps this many differences; further ones are only counted.
MAX_SHOWN = 1_000

_ALWAYS = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))

_JOURNALED, _STORED = 0, 1
# The streams that are in memory at once, about 4 kB each.
_STREAMS_PER_PART = 20_000
# Each part is a file, and all are open at once; most systems allow a process 1,024.
_MAX_PARTS = 256
_RECORD_HEAD = struct.Struct("<BI")

# Called with the current step, the units of it that are done, and the units in all.
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class AuditReport:
    """The numbers of what was compared, and the differences.

    `pending` streams are due for the finalizer: their facts and their bookings so far were compared.
    `before_journal` streams began before the part of the journal that METERING_JOURNAL_RETENTION keeps: their
    stored facts were taken as they are. `difference_count` counts all differences, `differences` has the first.
    """

    requests: int = 0
    events: int = 0
    streams: int = 0
    pending: int = 0
    before_journal: int = 0
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, differences: Iterable[Difference]) -> None:
        """Count the differences, and keep the first ones."""
        for difference in differences:
            self.difference_count += 1
            if len(self.differences) < MAX_SHOWN:
                self.differences.append(difference)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """What a run compares: what `ended` in the period, and the requests `received` that may concern it."""

    period: BillingPeriod | None
    ended: tuple[datetime, datetime]
    received: tuple[datetime, datetime]

    def has(self, facts: StreamFacts, time_zone: ZoneInfo) -> bool:
        """Whether a stream ended in the period."""
        if self.period is None:
            return True
        return BillingPeriod.containing(at=facts.ended_at, time_zone=time_zone) == self.period


class _Scratch:
    """Records in `parts` files: all those of one stream in one file, in the order in which they were added."""

    def __init__(self, folder: Path, *, parts: int) -> None:
        self._paths = [folder / f"part-{number:03d}" for number in range(parts)]
        self._open = ExitStack()
        self._files = [self._open.enter_context(path.open("wb", buffering=1 << 16)) for path in self._paths]

    def close(self) -> None:
        self._open.close()

    def add(self, customer_id: str, stream_id: str, *, kind: int, record: bytes) -> None:
        file = self._files[stream_hash(customer_id, stream_id) % len(self._files)]
        file.write(_RECORD_HEAD.pack(kind, len(record)))
        file.write(record)

    def parts(self) -> Iterator[Iterator[tuple[int, bytes]]]:
        """The (kind, record) pairs of each part. Ends adding; deletes each file once it is read."""
        self.close()
        for path in self._paths:
            yield _records(path)
            path.unlink()


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb", buffering=1 << 20) as file:
        while head := file.read(_RECORD_HEAD.size):
            kind, size = _RECORD_HEAD.unpack(head)
            yield kind, file.read(size)


def audit(
    *,
    engine: Engine,
    now: datetime,
    period: BillingPeriod | None = None,
    scratch: Path | None = None,
    progress: Progress = lambda *_: None,
) -> AuditReport:
    """Derive everything that is stored, or everything of one period, from the journal, and compare.

    It reads one snapshot and takes no locks. `scratch` is a folder with room for about 2 kB per stream, by default
    the system's temporary folder.
    """
    report = AuditReport()
    with read_transaction(engine) as connection:
        scope = _scope(connection, period)
        checks = [
            *BOOKING_CHECKS,
            *TOTAL_CHECKS,
            *INVOICE_CHECKS,
            *RATE_CHECKS,
            *LOG_CHECKS,
            *BUDGET_CHECKS,
            *GRANT_CHECKS,
        ]
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
    parts = min(_MAX_PARTS, 1 + total // _STREAMS_PER_PART)
    with closing(_Scratch(folder, parts=parts)) as scratch:
        _write_journal(connection, scope, scratch, report, progress)
        stored = iterate_stored(connection, begin=begin, end=end)
        for number, (customer_id, stream_id, document) in enumerate(stored, start=1):
            scratch.add(customer_id, stream_id, kind=_STORED, record=document.encode())
            progress("reading streams", number, total)
        history = PriceHistory(connection)
        report.add(history.check_cards())
        comparison = _Comparison(connection, scope, history, journal_start(connection), now, report)
        for records in scratch.parts():
            comparison.compare(records)
            progress("comparing streams", report.streams, total)


def _write_journal(
    connection: Connection, scope: _Scope, scratch: _Scratch, report: AuditReport, progress: Progress
) -> None:
    begin, end = scope.received
    total = count_journaled(connection, begin=begin, end=end)
    fold = JournalFold()
    for stream in fold.streams(iterate_journal(connection, begin=begin, end=end)):
        facts = stream.facts
        scratch.add(facts.customer_id, facts.stream_id, kind=_JOURNALED, record=msgspec.msgpack.encode(stream))
        progress("folding the journal's events", fold.events, total)
    report.requests, report.events = fold.requests, fold.events
    report.add(fold.differences)


_decode_journaled = msgspec.msgpack.Decoder(JournaledStream).decode


@dataclass(frozen=True, slots=True)
class _Comparison:
    connection: Connection
    scope: _Scope
    history: PriceHistory
    journal_from: datetime
    now: datetime
    report: AuditReport

    def compare(self, records: Iterator[tuple[int, bytes]]) -> None:
        """Compare the streams of one part, in which the journaled records come before the stored ones."""
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
                    [Difference("streams", stream_key(*key), f"the stored values are invalid: {error}")]
                )
                journaled.pop(key, None)
                continue
            key = (stored.facts.customer_id, stored.facts.stream_id)
            self._compare(journaled.pop(key, None), stored)
        for key, left in journaled.items():
            if self.scope.has(left.facts, UTC_ZONE):
                self.report.add(
                    [Difference("streams", stream_key(*key), "the stream is journaled, and not stored")]
                )

    def _compare(self, journaled: JournaledStream | None, stored: AuditedStream) -> None:
        zone = shown_zone(stored.time_zone)
        if not self.scope.has(stored.facts, zone) and not (journaled and self.scope.has(journaled.facts, zone)):
            return
        self.report.streams += 1
        self.report.pending += is_pending(stored, now=self.now)
        self.report.before_journal += stored.first_received_at < self.journal_from
        self.report.add(
            compare_stream(
                journaled,
                stored,
                history=self.history,
                journal_from=self.journal_from,
                has_request_at=partial(has_request_at, self.connection),
            )
        )


class _Facts(msgspec.Struct):
    customer_id: str
    stream_id: str


class _Stored(msgspec.Struct):
    facts: _Facts


def _key_of(document: bytes) -> Key:
    facts = msgspec.json.decode(document, type=_Stored).facts
    return facts.customer_id, facts.stream_id
