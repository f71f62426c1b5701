"""What a translation gives: events of the contract, and the records that became none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedEvent:
    """An event as JSON of the contract, and the place in the request of the record that it was made of, from 0."""

    record: int
    event: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A record that no event can be made of, and why: the field, what is wrong with it, and the fix."""

    record: int
    id: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """The events of a request in the order of its records. Records without usage are in neither list."""

    events: Sequence[TranslatedEvent]
    left_out: Sequence[LeftOut] = ()
