"""What a commit sends: many streams in parts, in the order of their keys, each encoded when it is its turn."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from metering.events.events import StreamStart
from metering.events.store import JournalEntry
from metering.streams.ingest.statements import MAX_STREAMS_PER_STATEMENT, Statements, statements_of
from metering.streams.stream import fold
from tests.builders.journal import journal_entry

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def statements(count: int, *entries: JournalEntry) -> Statements:
    events = [
        StreamStart(
            customer_id=f"c{number % 7}", stream_id=f"s{-number % count}", time=T0, provider="p", model="m"
        )
        for number in range(count)
    ]
    return statements_of(
        entries or (journal_entry(received_at=T0),), fold(events), abandon_after=timedelta(minutes=15)
    )


def keys_of(found: Statements) -> list[list[tuple[str, str]]]:
    parts = [msgspec.json.decode(parameters["rows"]) for parameters in found.upserts]
    return [[(row["customer_id"], row["stream_id"]) for row in part] for part in parts]


@pytest.mark.parametrize("count", [1, MAX_STREAMS_PER_STATEMENT, MAX_STREAMS_PER_STATEMENT + 1, 2_500])
def test_streams_are_written_once_each_in_parts(count: int) -> None:
    parts = keys_of(statements(count))
    assert all(len(part) <= MAX_STREAMS_PER_STATEMENT for part in parts)
    assert len(parts) == -(-count // MAX_STREAMS_PER_STATEMENT)
    assert len({key for part in parts for key in part}) == sum(map(len, parts)) == count


def test_several_parts_follow_the_order_of_keys_in_which_each_writer_locks_them() -> None:
    found = [key for part in keys_of(statements(2_500)) for key in part]
    assert found == sorted(found)


def test_requests_that_are_committed_together_span_their_arrivals() -> None:
    later = T0 + timedelta(seconds=2)
    found = statements(3, journal_entry(received_at=later), journal_entry(received_at=T0))
    (parameters,) = found.upserts
    assert (parameters["first_received_at"], parameters["received_at"], found.received_at) == (T0, later, later)
    assert [column[:2] for column in found.journal][:2] == [["k", "k"], [later, T0]]
    assert found.customers == {"c0", "c1", "c2"}


def test_a_part_is_encoded_when_it_is_taken() -> None:
    found = iter(statements(2_500).upserts)
    assert len(msgspec.json.decode(next(found)["rows"])) == MAX_STREAMS_PER_STATEMENT
    assert len(list(found)) == 2
