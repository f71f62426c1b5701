"""A difference: one thing that is stored otherwise than it follows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """`key` finds the row in `table`; `says` tells what it holds and what it should."""

    table: str
    key: str
    says: str


# What is compared: its name, as it is stored, and as it follows.
Claim = tuple[str, object, object]


def stream_key(customer_id: str, stream_id: str) -> str:
    """How a difference names a stream, and what is booked for it."""
    return f"{customer_id}/{stream_id}"


def unequal(table: str, key: str, claims: Iterable[Claim]) -> list[Difference]:
    """The claims that do not hold."""
    return [
        Difference(table, key, f"{name}: stored {stored!s}, derived {derived!s}")
        for name, stored, derived in claims
        if stored != derived
    ]


def field_claims(stored: Any, derived: Any, prefix: str = "") -> Iterator[Claim]:
    """The innermost fields in which two records differ, side by side."""
    if stored == derived:
        return
    if not is_dataclass(stored) or type(stored) is not type(derived):
        yield prefix, stored, derived
        return
    for field in fields(stored):
        name = f"{prefix}.{field.name}" if prefix else field.name
        yield from field_claims(getattr(stored, field.name), getattr(derived, field.name), name)
