"""A difference is one stored value that does not match the derived one; a check finds differences."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, text

# A check names at most this many rows: the first ones are enough to find the fault.
MAX_NAMED = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """`key` identifies the row in `table`; `says` states the stored and the derived value."""

    table: str
    key: str
    says: str


# The name of a value, the stored value and the derived one.
Claim = tuple[str, object, object]

# Finds the differences in what ended between two moments, or in all of a table that has no such time.
Check = Callable[[Connection, datetime, datetime], Iterator[Difference]]


def stream_key(customer_id: str, stream_id: str) -> str:
    """The key of a stream and of its bookings in a difference."""
    return f"{customer_id}/{stream_id}"


def unequal(table: str, key: str, claims: Iterable[Claim]) -> list[Difference]:
    """A difference for each claim whose two values are not equal."""
    return [
        Difference(table, key, f"{name}: stored {stored!s}, derived {derived!s}")
        for name, stored, derived in claims
        if stored != derived
    ]


def field_claims(stored: Any, derived: Any, prefix: str = "") -> Iterator[Claim]:
    """The innermost fields in which two records differ, with their dotted names."""
    if stored == derived:
        return
    names = _field_names(stored)
    if not names or type(stored) is not type(derived):
        yield prefix, stored, derived
        return
    for name in names:
        dotted = f"{prefix}.{name}" if prefix else name
        yield from field_claims(getattr(stored, name), getattr(derived, name), dotted)


def _field_names(value: Any) -> tuple[str, ...]:
    """The fields of a record; nothing for any other value."""
    if isinstance(value, Struct):
        return value.__struct_fields__
    return tuple(field.name for field in fields(value)) if is_dataclass(value) else ()


def rows_that_differ(
    connection: Connection, table: str, query: str, begin: datetime, end: datetime, **parameters: object
) -> Iterator[Difference]:
    """One difference for each row of `query`, whose columns are `key` and `says`."""
    rows = connection.execute(text(f"{query} LIMIT {MAX_NAMED}"), {"begin": begin, "end": end, **parameters})
    for row in rows:
        yield Difference(table, row.key, row.says)
