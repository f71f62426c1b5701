"""What a commit sends to PostgreSQL: rows of the journal, customers, and the rows of streams in parts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from metering.events.store import JournalEntry, journal_columns
from metering.streams.store.streams import upsert_parameters
from metering.streams.stream import StreamFacts

# More rows in a statement hold up the event loop while they are encoded or sent, and so all other requests.
MAX_STREAMS_PER_STATEMENT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """The parameters of INSERT_JOURNAL and of each UPSERT, and the customers of the streams."""

    journal: list[list[object]]
    customers: frozenset[str]
    upserts: Iterable[Mapping[str, Any]]
    received_at: datetime


def statements_of(
    entries: Sequence[JournalEntry],
    streams: Mapping[tuple[str, str], StreamFacts],
    *,
    abandon_after: timedelta,
) -> Statements:
    """The statements for requests whose joined facts are `streams`. Each UPSERT is encoded when it is taken."""
    arrivals = [entry.received_at for entry in entries]
    upserts = (
        upsert_parameters(
            part, first_received_at=min(arrivals), received_at=max(arrivals), abandon_after=abandon_after
        )
        for part in _parts(streams)
    )
    return Statements(
        journal=journal_columns(entries),
        customers=frozenset(customer for customer, _ in streams),
        upserts=upserts,
        received_at=max(arrivals),
    )


def _parts(streams: Mapping[tuple[str, str], StreamFacts]) -> Iterator[Sequence[StreamFacts]]:
    """The streams in the order of their keys, in which each statement locks them: two writers cannot deadlock."""
    keys = sorted(streams) if len(streams) > MAX_STREAMS_PER_STATEMENT else list(streams)
    for begin in range(0, len(keys), MAX_STREAMS_PER_STATEMENT):
        yield [streams[key] for key in keys[begin : begin + MAX_STREAMS_PER_STATEMENT]]
