"""Stored streams, each with its facts, its state and all its bookings, read as one JSON document."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import msgspec
from sqlalchemy import Connection, text

from metering.archive.columns import STREAM_COLUMNS, Kind
from metering.archive.read_archive import OpenArchive, archived_streams
from metering.db.rows import json_rows
from metering.events.usage import COUNTERS
from metering.ledger.entries import Adjustment, Charge
from metering.ledger.store.charges import CHARGE_COLUMNS
from metering.streams.bill import Bill
from metering.streams.resolutions import Resolution
from metering.streams.settlement import State
from metering.streams.store.streams import ENDED_AT, FACTS
from metering.streams.stream import StreamFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInterruption:
    """What is stored about a stream that a retry may repeat."""

    request_key: int
    ended_at: datetime
    interrupted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedStream:
    """A stream with its bookings. `charge_usd_cents` is stored; the amount of a bill is the sum of its lines.

    `late_for` is the archive of a stream to which events came since: its other facts are there.
    """

    facts: StreamFacts
    first_received_at: datetime
    last_received_at: datetime
    state: State
    state_reason: str | None
    due_at: datetime | None
    revision: int | None
    time_zone: str
    closed_through: str
    charge: Charge | None
    charge_usd_cents: Decimal | None
    adjustments: tuple[Adjustment, ...]
    resolution: Resolution | None
    interruption: StoredInterruption | None
    late_for: str | None

    @property
    def bills(self) -> list[Bill | None]:
        """The bill of each booking, the charge's first."""
        if self.charge is None:
            return []
        return [self.charge.bill, *(adjustment.bill for adjustment in self.adjustments)]


_OWN = ("customer_id", "stream_id", "charge_id", "booked_at", "period", "request_key")
_BILL = [name for name in CHARGE_COLUMNS if name not in (*_OWN, *COUNTERS, "usd_cents")]


def _object(table: str, names: Sequence[str], **more: str) -> str:
    members = [f"'{name}', {table}.{name}" for name in names]
    members += [f"'{name}', {value}" for name, value in more.items()]
    return f"json_build_object({', '.join(members)})"


_CHARGE = _object("c", _OWN, bill=_object("c", _BILL, usage=_object("c", COUNTERS)))
_ADJUSTMENT = _object(
    "a",
    (
        "adjustment_id",
        "customer_id",
        "stream_id",
        "charge_id",
        "revision",
        "booked_at",
        "period",
        "reason",
        "usd_cents",
    ),
    bill=f"CASE WHEN NOT a.taken_back THEN {_object('a', _BILL, usage=_object('a', COUNTERS))} END",
)
_STATE = ("first_received_at", "last_received_at", "state", "state_reason", "due_at", "revision")


def _document(late_for: str) -> str:
    """SQL for the one JSON document of a stream; it decodes to an `AuditedStream`."""
    return _object(
        "s",
        _STATE,
        facts=f"({FACTS})::json",
        time_zone="customers.time_zone",
        closed_through="customers.closed_through",
        charge=f"CASE WHEN c.charge_id IS NOT NULL THEN {_CHARGE} END",
        charge_usd_cents="c.usd_cents",
        adjustments="coalesce(a.adjustments, '[]')",
        resolution="CASE WHEN r.stream_id IS NOT NULL THEN row_to_json(r) END",
        interruption="CASE WHEN i.stream_id IS NOT NULL THEN row_to_json(i) END",
        late_for=late_for,
    )


def _documents(source: str, *, late_for: str, key: str = "s", adjusted: str = "", where: str) -> str:
    """SQL for the documents of the streams `s` of a source, each with its charge `c`. `key` is one of its tables.

    Adjustments, resolutions and interruptions are few beside the streams: aggregated once, not looked up for each.
    """
    return f"""
    SELECT s.customer_id, s.stream_id, {_document(late_for)}::text AS document
    FROM {source}
    LEFT JOIN customers ON customers.customer_id = {key}.customer_id
    LEFT JOIN (SELECT customer_id, stream_id, json_agg({_ADJUSTMENT} ORDER BY revision) AS adjustments
               FROM adjustments a {adjusted} GROUP BY 1, 2) a
        ON a.customer_id = {key}.customer_id AND a.stream_id = {key}.stream_id
    LEFT JOIN (SELECT DISTINCT ON (customer_id, stream_id) * FROM resolutions
               ORDER BY customer_id, stream_id, resolved_at DESC) r
        ON r.customer_id = {key}.customer_id AND r.stream_id = {key}.stream_id
    LEFT JOIN interrupted_streams i ON i.customer_id = {key}.customer_id AND i.stream_id = {key}.stream_id
    WHERE {where}
    """


_STREAMS = text(
    _documents(
        """streams s LEFT JOIN charges c ON c.customer_id = s.customer_id AND c.stream_id = s.stream_id
        LEFT JOIN archived_streams k ON k.customer_id = s.customer_id AND k.stream_id = s.stream_id""",
        late_for="k.archive_id",
        where="s.last_received_at >= :begin AND s.first_received_at <= :end",
    )
).execution_options(yield_per=2_000)
# Archived streams have their charge. The rows are given, since their files are not in the database; Citus joins
# tables with each other by their keys, not by those of given rows.
_ARCHIVED = text(
    _documents(
        f"""json_to_recordset(CAST(:rows AS json))
            AS s ({", ".join(f"{column.name} {column.kind.value}" for column in STREAM_COLUMNS)})
        JOIN archived_streams k ON k.customer_id = s.customer_id AND k.stream_id = s.stream_id
        JOIN charges c ON c.customer_id = k.customer_id AND c.stream_id = k.stream_id""",
        late_for="NULL",
        key="k",
        adjusted="WHERE a.customer_id = ANY(:customer_ids)",
        where="k.archive_id = :archive_id",
    )
)

_COUNT = text("SELECT count(*) FROM streams s WHERE s.last_received_at >= :begin AND s.first_received_at <= :end")
_RECEIVED = text(
    f"""
    SELECT min(first_received_at), max(last_received_at) FROM streams s
    WHERE {ENDED_AT} >= :begin AND {ENDED_AT} < :end
    """
)

_decode = msgspec.json.Decoder(AuditedStream).decode
_JSON = frozenset(column.name for column in STREAM_COLUMNS if column.kind is Kind.JSON)


def count_streams(connection: Connection, *, begin: datetime, end: datetime) -> int:
    """The number of streams that `iterate_stored` yields for the same range."""
    count: int = connection.execute(_COUNT, {"begin": begin, "end": end}).scalar_one()
    return count


def received_within(connection: Connection, begin: datetime, end: datetime) -> tuple[datetime, datetime] | None:
    """The first and the last receipt of any stream that ended in the half-open range; None without streams."""
    first, last = connection.execute(_RECEIVED, {"begin": begin, "end": end}).one()
    return None if first is None else (first, last)


def iterate_stored(connection: Connection, *, begin: datetime, end: datetime) -> Iterator[tuple[str, str, str]]:
    """(customer_id, stream_id, document) of every stream with an event that arrived in the closed range."""
    for row in connection.execute(_STREAMS, {"begin": begin, "end": end}):
        yield row.customer_id, row.stream_id, row.document


def iterate_archived(connection: Connection, archive: OpenArchive) -> Iterator[tuple[str, str, str]]:
    """The same of the streams of an archive that are not in the database any more, with their present bookings."""
    for batch in archived_streams(archive):
        rows = json_rows(
            {
                name: msgspec.Raw(value.encode()) if name in _JSON and value else value
                for name, value in row.items()
            }
            for row in batch
        )
        values = {
            "rows": rows,
            "archive_id": archive.manifest.archive_id,
            "customer_ids": sorted({row["customer_id"] for row in batch}),
        }
        for row in connection.execute(_ARCHIVED, values):
            yield row.customer_id, row.stream_id, row.document


def stored_from_document(document: bytes) -> AuditedStream:
    """Decode a document.

    Raises:
        msgspec.DecodeError: the document holds a value that no stream can have; the message names the place.
    """
    return _decode(document)
