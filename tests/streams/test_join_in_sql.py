"""The join in SQL: it is the pure one, whatever the order, the duplicates and the batches."""

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from metering.events.events import Outcome, StreamEnd, TokenDelivered, UsageEvent
from metering.streams.store.streams import STREAM_COLUMNS, UPSERT, stored_stream, upsert_parameters
from metering.streams.stream import StreamFacts, facts_of, fold, join_all
from tests.builders.strategies import T0, batches, events
from tests.database import Database

ABANDON = timedelta(minutes=15)


def _store(connection: psycopg.Connection, facts: dict[tuple[str, str], StreamFacts]) -> int:
    parameters = upsert_parameters(facts.values(), first_received_at=T0, received_at=T0, abandon_after=ABANDON)
    return connection.execute(UPSERT, parameters).rowcount


def _years_earlier(event: UsageEvent) -> UsageEvent:
    time = event.time - timedelta(days=9_000)
    return structs.replace(event, time=time) if isinstance(event, TokenDelivered) else replace(event, time=time)


def _stored(connection: psycopg.Connection) -> dict[tuple[str, str], StreamFacts]:
    with connection.cursor(row_factory=psycopg.rows.namedtuple_row) as cursor:
        rows = cursor.execute(f"SELECT {STREAM_COLUMNS} FROM streams s").fetchall()
    facts = [stored_stream(row).facts for row in rows]
    return {(fact.customer_id, fact.stream_id): fact for fact in facts}


@pytest.fixture
def connection(database: Database) -> psycopg.Connection:
    with psycopg.connect(database.url, autocommit=True) as opened:
        yield opened


def test_the_upsert_is_the_same_join_in_sql(connection: psycopg.Connection) -> None:
    reached: Counter[str] = Counter()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(batches, st.randoms(use_true_random=False))
    def check(sequence: list[list[UsageEvent]], rng: random.Random) -> None:
        connection.execute("DELETE FROM streams")
        expected = fold(event for batch in sequence for event in batch)
        shuffled = sequence + rng.choices(sequence, k=2)
        rng.shuffle(shuffled)
        for batch in shuffled:
            _store(connection, fold(batch))
        assert _stored(connection) == expected
        reached["conflicting"] += any(facts.conflicting for facts in expected.values())
        reached["ended before started"] += any(f.end is not None and f.start is None for f in expected.values())
        reached["delivered"] += any(facts.delivered is not None for facts in expected.values())
        reached["several streams"] += len(expected) > 1

    check()
    assert all(
        reached[what] > 20 for what in ("conflicting", "ended before started", "delivered", "several streams")
    )


def test_the_upsert_believes_the_times_that_the_pure_join_believes(connection: psycopg.Connection) -> None:
    reached: Counter[str] = Counter()
    arrivals = st.sampled_from([T0, T0 - timedelta(minutes=10), T0 - timedelta(days=3), T0 + timedelta(days=9)])

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(events, arrivals, st.booleans()), min_size=1, max_size=8))
    def check(received: list[tuple[UsageEvent, datetime, bool]]) -> None:
        connection.execute("DELETE FROM streams")
        parts = [
            facts_of(_years_earlier(event) if ancient else event, received_at=at)
            for event, at, ancient in received
        ]
        for part in parts:
            _store(connection, join_all([part]))
        expected = join_all(parts)
        assert _stored(connection) == expected
        reached["misdated"] += any(facts.misdated for facts in expected.values())
        reached["ahead"] += any(facts.clock_ahead_seconds for facts in expected.values())
        reached["right"] += not any(facts.misdated for facts in expected.values())

    check()
    assert all(reached[what] > 10 for what in ("misdated", "ahead", "right")), reached


def test_facts_that_are_known_already_write_nothing(connection: psycopg.Connection) -> None:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(events, min_size=1, max_size=8))
    def check(batch: list[UsageEvent]) -> None:
        connection.execute("DELETE FROM streams")
        facts = fold(batch)
        assert _store(connection, facts) == len(facts)
        assert _store(connection, facts) == 0

    check()


def test_new_facts_make_a_finalized_stream_due_again_and_known_ones_do_not(database: Database) -> None:
    end = StreamEnd(customer_id="acme", stream_id="s", time=T0, outcome=Outcome.COMPLETED)
    late = TokenDelivered(customer_id="acme", stream_id="s", time=T0, seq=1, output_tokens=5)
    with psycopg.connect(database.url, autocommit=True) as connection:
        _store(connection, fold([end]))
        connection.execute("UPDATE streams SET state = 'finalized', due_at = NULL")
        _store(connection, fold([end]))
        assert connection.execute("SELECT due_at FROM streams").fetchone() == (None,)
        _store(connection, fold([late]))
        assert connection.execute("SELECT due_at FROM streams").fetchone() == (T0,)
