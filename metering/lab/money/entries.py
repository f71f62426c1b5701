"""The entries that a transaction booked, and what the stream-starts say about their streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import psycopg

from metering.lab.money.history import Row, Transaction, time_of

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A charge or an adjustment. `kind` is `charge`, `late_facts`, `rerate` or `manual`."""

    customer_id: str
    entry_id: str
    stream_id: str | None
    kind: str
    cents: Fraction
    booked_at: datetime
    filed_at: datetime
    provider: str | None = None
    model: str | None = None
    api_key_id: str | None = None

    @property
    def key(self) -> Key:
        """(customer_id, stream_id); the id is empty for an entry of the customer as a whole."""
        return self.customer_id, self.stream_id or ""


@dataclass(frozen=True, slots=True)
class Started:
    """A stream's first arrival, and what its stream-start says."""

    first_received_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    failed_open: bool = False


_STARTED = """
SELECT customer_id, stream_id, first_received_at, start_data -> 'tags',
       coalesce((start_data ->> 'failed_open')::boolean, false)
FROM streams WHERE customer_id = ANY (%s)
"""


def shown(cents: Fraction) -> str:
    """An amount for a message."""
    return f"{Decimal(cents.numerator) / Decimal(cents.denominator):f}"


def read_started(connection: psycopg.Connection, customer_ids: Sequence[str]) -> dict[Key, Started]:
    """The streams of these customers."""
    rows = connection.execute(_STARTED, (list(customer_ids),))
    return {(row[0], row[1]): Started(row[2], row[3] or {}, row[4]) for row in rows}


def entries_of(transaction: Transaction) -> list[Entry]:
    """What a transaction booked, in the order of booking."""
    return [
        *(_entry(row, row["charge_id"], "charge", row["ended_at"]) for row in transaction.inserted("charges")),
        *(
            _entry(row, row["adjustment_id"], row["reason"], row["ended_at"])
            for row in transaction.inserted("adjustments")
        ),
        *(
            _entry(row, row["adjustment_id"], "manual", row["filed_at"])
            for row in transaction.inserted("manual_adjustments")
        ),
    ]


def _entry(row: Row, entry_id: str, kind: str, filed_at: str) -> Entry:
    return Entry(
        customer_id=row["customer_id"],
        entry_id=entry_id,
        stream_id=row["stream_id"],
        kind=kind,
        cents=Fraction(row["usd_cents"]),
        booked_at=time_of(row["booked_at"]),
        filed_at=time_of(filed_at),
        provider=row.get("provider"),
        model=row.get("model"),
        api_key_id=row.get("api_key_id"),
    )
