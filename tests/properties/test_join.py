"""The join: pure and in SQL they are one and the same, and order, duplicates and batches change nothing."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import reduce

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageEvent, UsageSource
from metering.events.usage import Usage
from metering.streams.store.streams import STREAM_COLUMNS, UPSERT, stored_stream, upsert_parameters
from metering.streams.stream import StreamFacts, facts_of, fold, join
from tests.database import Database

T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)
ABANDON = timedelta(minutes=15)

# Few values, so that duplicates, ties and conflicts come up all the time.
times = st.integers(0, 3).map(lambda seconds: T0 + timedelta(seconds=seconds, milliseconds=123))
counts = st.sampled_from([0, 1, 7, 2**53 - 1])
maybe_counts = st.none() | counts
streams = st.sampled_from([("acme", "s1"), ("acme", "s2"), ("bolt", "s1")])


def _start(key: tuple[str, str]) -> st.SearchStrategy[UsageEvent]:
    return st.builds(
        StreamStart,
        customer_id=st.just(key[0]),
        stream_id=st.just(key[1]),
        time=times,
        provider=st.just("openai"),
        model=st.sampled_from(["gpt-5.5", "gpt-5.5-pro"]),
        input_tokens=maybe_counts,
        tags=st.sampled_from([{}, {"team": "a"}]),
    )


def _delivered(key: tuple[str, str]) -> st.SearchStrategy[UsageEvent]:
    return st.builds(
        TokenDelivered,
        customer_id=st.just(key[0]),
        stream_id=st.just(key[1]),
        time=times,
        seq=st.integers(0, 5),
        output_tokens=counts,
        reasoning_output_tokens=maybe_counts,
    )


def _end(key: tuple[str, str]) -> st.SearchStrategy[UsageEvent]:
    return st.builds(
        StreamEnd,
        customer_id=st.just(key[0]),
        stream_id=st.just(key[1]),
        time=times,
        outcome=st.sampled_from([Outcome.COMPLETED, Outcome.CANCELLED]),
        usage=st.none() | st.builds(Usage, input_tokens=maybe_counts, output_tokens=maybe_counts),
        usage_source=st.none() | st.sampled_from(list(UsageSource)),
        response_model=st.none() | st.just("gpt-5.5-2026-04-23"),
    )


events = streams.flatmap(lambda key: st.one_of(_start(key), _delivered(key), _end(key)))
batches = st.lists(st.lists(events, min_size=1, max_size=8), min_size=1, max_size=6)
one_stream = st.lists(
    st.one_of(_start(("acme", "s")), _delivered(("acme", "s")), _end(("acme", "s"))), min_size=1, max_size=8
)


@given(one_stream, st.randoms(use_true_random=False))
def test_order_and_duplicates_do_not_change_the_facts(sequence: list[UsageEvent], rng: random.Random) -> None:
    again = sequence + rng.choices(sequence, k=3)
    rng.shuffle(again)
    assert fold(again) == fold(sequence)


@given(one_stream, one_stream, one_stream)
def test_the_join_is_associative_commutative_and_idempotent(
    first: list[UsageEvent], second: list[UsageEvent], third: list[UsageEvent]
) -> None:
    a, b, c = (reduce(join, map(facts_of, part)) for part in (first, second, third))
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, a) == a


def _store(connection: psycopg.Connection, facts: dict[tuple[str, str], StreamFacts]) -> int:
    parameters = upsert_parameters(facts.values(), first_received_at=T0, received_at=T0, abandon_after=ABANDON)
    return connection.execute(UPSERT, parameters).rowcount


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
        connection.execute("TRUNCATE streams")
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


def test_facts_that_are_known_already_write_nothing(connection: psycopg.Connection) -> None:
    @settings(max_examples=50, deadline=None)
    @given(st.lists(events, min_size=1, max_size=8))
    def check(batch: list[UsageEvent]) -> None:
        connection.execute("TRUNCATE streams")
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
