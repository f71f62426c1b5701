"""The tasks of an audit. Any process can do any of them; they exchange data only through scratch files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import TypedDict
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from metering.archive.read_archive import OpenArchive, archived_requests, has_archived_request_at
from metering.audit.bookings import PriceHistory
from metering.audit.difference import Difference, stream_key
from metering.audit.journaled import JournaledStream, JournalFold, Key, join_records, write_journaled
from metering.audit.queries.booking_checks import BOOKING_CHECKS
from metering.audit.queries.budget_checks import BUDGET_CHECKS
from metering.audit.queries.grant_checks import GRANT_CHECKS
from metering.audit.queries.invoice_checks import INVOICE_CHECKS
from metering.audit.queries.log_checks import LOG_CHECKS
from metering.audit.queries.rate_checks import RATE_CHECKS
from metering.audit.queries.stored import AuditedStream, iterate_archived, iterate_stored, stored_from_document
from metering.audit.queries.total_checks import TOTAL_CHECKS
from metering.audit.report import AuditReport
from metering.audit.scratch import ScratchWriter, take_records
from metering.audit.streams import compare_late, compare_stream, is_pending, with_late_facts
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE, shown_zone
from metering.events.queries import JournaledRequest, has_request_at, iterate_journal
from metering.streams.stream import StreamFacts

CHECKS = (
    *BOOKING_CHECKS,
    *TOTAL_CHECKS,
    *INVOICE_CHECKS,
    *RATE_CHECKS,
    *LOG_CHECKS,
    *BUDGET_CHECKS,
    *GRANT_CHECKS,
)
_STORED = "stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a run compares: what `ended` in the period, and the requests `received` that may concern it."""

    period: BillingPeriod | None
    ended: tuple[datetime, datetime]
    received: tuple[datetime, datetime]

    def has(self, facts: StreamFacts, time_zone: ZoneInfo) -> bool:
        """Whether a stream ended in the period."""
        if self.period is None:
            return True
        return BillingPeriod.containing(at=facts.ended_at, time_zone=time_zone) == self.period


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all tasks of a run share. Each of `folds` is the first and the last arrival of what a task folds.

    `journal_from`: requests from before are neither in the journal nor in an archive.
    """

    scope: Scope
    folder: Path
    parts: int
    folds: tuple[tuple[datetime, datetime], ...]
    archives: tuple[OpenArchive, ...]
    journal_from: datetime
    now: datetime

    @property
    def folded_archives(self) -> list[int]:
        """The places of the archives whose requests may concern the scope, and are not in the journal."""
        first, last = self.scope.received
        return [
            place
            for place, each in enumerate(self.archives)
            if each.is_complete and each.manifest.received_from <= last and each.manifest.received_before > first
        ]


class Kind(Enum):
    """What a task does."""

    CHECK = auto()
    FOLD = auto()
    FOLD_ARCHIVE = auto()
    READ_STORED = auto()
    READ_ARCHIVED = auto()
    COMPARE = auto()


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of an audit; `number` says which check, range of the journal, archive or part."""

    kind: Kind
    number: int = 0


class Auditor:
    """Does tasks on one connection, and keeps the prices that it has read."""

    def __init__(self, connection: Connection, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan
        self._history = PriceHistory(connection)

    def do(self, task: Task) -> AuditReport:
        """What a task finds."""
        match task.kind:
            case Kind.CHECK:
                return self._check(task.number)
            case Kind.FOLD:
                begin, end = self._plan.folds[task.number]
                requests = iterate_journal(self._connection, begin=begin, end=end)
                return self._fold(_fold_name(task.number), requests)
            case Kind.FOLD_ARCHIVE:
                return self._fold(_archive_name(task.number), archived_requests(self._plan.archives[task.number]))
            case Kind.READ_STORED:
                begin, end = self._plan.scope.received
                return self._read(_STORED, iterate_stored(self._connection, begin=begin, end=end))
            case Kind.READ_ARCHIVED:
                archive = self._plan.archives[task.number]
                return self._read(f"{_STORED}-{task.number}", iterate_archived(self._connection, archive))
            case Kind.COMPARE:
                return self._compare(task.number)

    def _check(self, number: int) -> AuditReport:
        """Check one invariant; the last number is for the rate cards."""
        report = AuditReport()
        if number < len(CHECKS):
            report.add(CHECKS[number](self._connection, *self._plan.scope.ended))
        else:
            report.add(self._history.check_cards())
        return report

    def _fold(self, name: str, requests: Iterable[JournaledRequest]) -> AuditReport:
        """Fold the events of some requests into streams."""
        fold = JournalFold()
        with self._scratch(name) as scratch:
            write_journaled(scratch, fold, requests)
        report = AuditReport(requests=fold.requests, events=fold.events)
        report.add(fold.differences)
        return report

    def _read(self, name: str, documents: Iterable[tuple[str, str, str]]) -> AuditReport:
        with self._scratch(name) as scratch:
            for customer_id, stream_id, document in documents:
                scratch.add(customer_id, stream_id, document.encode())
        return AuditReport()

    def _compare(self, part: int) -> AuditReport:
        """Compare the streams of one part, once all folds and all stored streams are in scratch files."""
        comparison = _Comparison(self._connection, self._plan, self._history, AuditReport())
        journaled = comparison.journaled(part)
        for name in (_STORED, *(f"{_STORED}-{number}" for number in range(len(self._plan.archives)))):
            for record in take_records(self._plan.folder, task=name, part=part):
                comparison.compare_stored(record, journaled)
        comparison.report_left(journaled)
        return comparison.report

    def _scratch(self, task: str) -> ScratchWriter:
        return ScratchWriter(self._plan.folder, task=task, parts=self._plan.parts)


def _fold_name(number: int) -> str:
    return f"fold-{number}"


def _archive_name(number: int) -> str:
    return f"archive-{number}"


@dataclass(frozen=True, slots=True)
class _Comparison:
    connection: Connection
    plan: Plan
    history: PriceHistory
    report: AuditReport
    late: dict[Key, AuditedStream] = field(default_factory=dict)

    def journaled(self, part: int) -> dict[Key, JournaledStream]:
        """The journaled streams of a part, each joined from its folds."""
        return join_records(self._folded(part))

    def _has_request_at(self, received_at: datetime) -> bool:
        return has_request_at(self.connection, received_at) or has_archived_request_at(
            self.plan.archives, received_at
        )

    def _folded(self, part: int) -> Iterator[bytes]:
        folds = map(_fold_name, range(len(self.plan.folds)))
        archives = map(_archive_name, self.plan.folded_archives)
        for name in (*folds, *archives):
            yield from take_records(self.plan.folder, task=name, part=part)

    def compare_stored(self, record: bytes, journaled: dict[Key, JournaledStream]) -> None:
        """Compare a stored stream with the journaled one, which is taken out of `journaled`."""
        try:
            stored = stored_from_document(record)
        except msgspec.DecodeError as error:
            key = _key_of(record)
            self.report.add([Difference("streams", stream_key(*key), f"the stored values are invalid: {error}")])
            journaled.pop(key, None)
            return
        key = (stored.facts.customer_id, stored.facts.stream_id)
        if stored.late_for is not None and self.plan.archives:
            # Its archive comes next, and has the rest of its facts.
            self.late[key] = stored
            return
        if (late := self.late.pop(key, None)) is not None:
            stored = with_late_facts(stored, late)
        self._compare(journaled.pop(key, None), stored)

    def report_left(self, journaled: dict[Key, JournaledStream]) -> None:
        """Report the journaled streams of the period that are not stored, and late ones that are in no archive."""
        for key in self.late:
            self.report.add([Difference("archived_streams", stream_key(*key), "the archive has no such stream")])
        for key, left in journaled.items():
            if self.plan.scope.has(left.facts, UTC_ZONE):
                says = "the stream is journaled, and not stored"
                self.report.add([Difference("streams", stream_key(*key), says)])

    def _compare(self, journaled: JournaledStream | None, stored: AuditedStream) -> None:
        zone, scope = shown_zone(stored.time_zone), self.plan.scope
        if not scope.has(stored.facts, zone) and not (journaled and scope.has(journaled.facts, zone)):
            return
        self.report.streams += 1
        self.report.pending += is_pending(stored, now=self.plan.now)
        self.report.before_journal += stored.first_received_at < self.plan.journal_from
        terms: _Terms = {"journal_from": self.plan.journal_from, "has_request_at": self._has_request_at}
        if stored.late_for is not None:
            self.report.add(compare_late(journaled, stored, **terms))
        else:
            self.report.add(compare_stream(journaled, stored, history=self.history, now=self.plan.now, **terms))


class _Terms(TypedDict):
    journal_from: datetime
    has_request_at: Callable[[datetime], bool]


class _Facts(msgspec.Struct):
    customer_id: str
    stream_id: str


class _Stored(msgspec.Struct):
    facts: _Facts


def _key_of(document: bytes) -> Key:
    facts = msgspec.json.decode(document, type=_Stored).facts
    return facts.customer_id, facts.stream_id
