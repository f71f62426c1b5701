"""Claims of due streams on Citus, which does not lock rows of several shards by a SELECT.

Each stream is in one of a fixed number of lanes, by the hash of its key. A worker leases lanes by advisory locks
that end with its transaction, so no other worker claims the streams of these lanes. An UPDATE that changes nothing
then locks the rows against ingest, and their newest version is read.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from metering.db.citus import LANE
from metering.db.locks import take_free_lanes
from metering.streams.store.streams import StoredStream, lock_due_streams

# The oldest due streams say which lanes to take. Lanes beyond the first are taken only if they are short.
_LOOKED_AT, _MORE_LANES = 200, 15


# Facts are measured where they are stored, so that no more of them are read than a batch may have.
def _due(condition: str, order: str) -> str:
    return f"""
        SELECT s.customer_id, s.stream_id, {LANE} AS lane, 500 + coalesce(octet_length(s.start_data::text), 0)
               + coalesce(octet_length(s.end_data::text), 0) AS characters
        FROM streams s WHERE {condition} s.due_at <= :now AND s.customer_id <> ALL(:without)
        ORDER BY s.due_at {order} LIMIT :limit
    """


_OLDEST = {False: text(_due("", "ASC")), True: text(_due("", "DESC"))}
_OF_LANES = {
    newest_first: text(_due(f"{LANE} = ANY(:lanes) AND", order))
    for newest_first, order in ((False, "ASC"), (True, "DESC"))
}


@dataclass(frozen=True, slots=True)
class _Due:
    """A due stream that is read, and not locked."""

    customer_id: str
    stream_id: str
    lane: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneClaim:
    """Which due streams to claim. `without` these customers."""

    now: datetime
    limit: int
    newest_first: bool
    without: Sequence[str]

    def find(self, connection: Connection, *, limit: int, lanes: Iterable[int] | None = None) -> list[_Due]:
        """Due streams, longest waiting first; only of these lanes, if they are given."""
        parameters = {"now": self.now, "without": list(self.without), "limit": limit}
        statement = _OLDEST[self.newest_first]
        if lanes is not None:
            statement, parameters["lanes"] = _OF_LANES[self.newest_first], list(lanes)
        return [_Due(*row) for row in connection.execute(statement, parameters)]


def claim_keys(
    connection: Connection, wanted: LaneClaim, *, max_characters: int
) -> tuple[list[tuple[str, str]], bool]:
    """Lease lanes until the transaction ends; returns the keys of their due streams, and whether more may be due.

    If no more than `limit` are due, those of all free lanes; else those of a lane, so that other workers have the
    others. The keys end with the stream by which the facts of all together reach about `max_characters`.
    """
    oldest = wanted.find(connection, limit=max(wanted.limit, _LOOKED_AT))
    lanes = list(dict.fromkeys(each.lane for each in oldest))
    if len(oldest) < wanted.limit:
        taken = set(take_free_lanes(connection, lanes, at_most=len(lanes)))
        found = [each for each in oldest if each.lane in taken]
    else:
        first = take_free_lanes(connection, lanes, at_most=1)
        found = wanted.find(connection, limit=wanted.limit, lanes=first) if first else []
        missing = wanted.limit - len(found)
        if found and missing:
            # Other lanes have about as many.
            at_most = min(missing // len(found) + 2, _MORE_LANES)
            more = take_free_lanes(connection, [lane for lane in lanes if lane not in first], at_most=at_most)
            found += wanted.find(connection, limit=missing, lanes=more)
    keys = list(_within(found, max_characters))
    return keys, bool(keys) and (len(oldest) >= wanted.limit or len(keys) < len(found))


def _within(found: Iterable[_Due], max_characters: int) -> Iterator[tuple[str, str]]:
    characters = 0
    for each in found:
        if characters >= max_characters:
            return
        yield (each.customer_id, each.stream_id)
        characters += each.characters


def claim_streams(
    connection: Connection, wanted: LaneClaim, *, max_characters: int
) -> tuple[list[StoredStream], bool]:
    """The same, with the streams locked and read."""
    keys, is_full = claim_keys(connection, wanted, max_characters=max_characters)
    if not keys:
        return [], False
    streams = lock_due_streams(connection, keys, now=wanted.now)
    by_key = {(each.facts.customer_id, each.facts.stream_id): each for each in streams}
    return [by_key[key] for key in keys if key in by_key], is_full
