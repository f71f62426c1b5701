"""The columns of an archive's files, as in the tables `streams` and `journal`.

A stored body is inflated, so that any reader of Parquet finds the events as JSON, exactly as they were sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a column holds. JSON is text; NUMBERS is a list of 32-bit integers."""

    TEXT = "text"
    JSON = "json"
    TIME = "timestamptz"
    LONG = "bigint"
    NUMBER = "integer"
    SHORT = "smallint"
    FLAG = "boolean"
    NUMBERS = "integer[]"
    BYTES = "bytea"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file, and of the table with its name."""

    name: str
    kind: Kind


def _columns(**kinds: Kind) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in kinds.items())


STREAM_COLUMNS = _columns(
    customer_id=Kind.TEXT,
    stream_id=Kind.TEXT,
    started_at=Kind.TIME,
    start_fingerprint=Kind.LONG,
    start_data=Kind.JSON,
    start_conflicting=Kind.FLAG,
    start_received_at=Kind.TIME,
    delivered_seq=Kind.LONG,
    delivered_output_tokens=Kind.LONG,
    delivered_reasoning_tokens=Kind.LONG,
    last_event_at=Kind.TIME,
    end_rank=Kind.SHORT,
    ended_at=Kind.TIME,
    end_fingerprint=Kind.LONG,
    end_data=Kind.JSON,
    end_conflicting=Kind.FLAG,
    end_received_at=Kind.TIME,
    clock_ahead_seconds=Kind.LONG,
    first_received_at=Kind.TIME,
    last_received_at=Kind.TIME,
    state=Kind.TEXT,
    state_reason=Kind.TEXT,
    due_at=Kind.TIME,
    revision=Kind.NUMBER,
)
JOURNAL_COLUMNS = _columns(
    received_at=Kind.TIME,
    journal_id=Kind.LONG,
    ingest_key_id=Kind.TEXT,
    media_type=Kind.TEXT,
    event_count=Kind.NUMBER,
    rejected=Kind.NUMBERS,
    stream_hashes=Kind.NUMBERS,
    body=Kind.BYTES,
)


def place_of(columns: Sequence[Column], name: str) -> int:
    """The place of a column in a row."""
    return next(place for place, column in enumerate(columns) if column.name == name)
