"""A stream's facts: order and duplicates change nothing, the most believable wins, contradictions are kept."""

import random
from datetime import timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.events import Outcome, UsageEvent, UsageSource
from metering.events.usage import Usage
from metering.streams.stream import SOURCE_RANK, billable_usage, facts_of, fold, join
from tests.builders.events import T0, delivered, end, start
from tests.builders.strategies import one_stream

SOURCES = sorted(SOURCE_RANK, key=lambda source: SOURCE_RANK[source])


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


def facts(*events: UsageEvent):
    (found,) = fold(events).values()
    return found


@pytest.mark.parametrize("place", range(3))
def test_an_end_that_is_believed_more_wins_and_contradicts_no_other(place: int) -> None:
    better, worse = (end(output=output, usage_source=SOURCES[place + output]) for output in (0, 1))
    for order in ((better, worse), (worse, better)):
        found = facts(*order)
        assert found.end.event == better
        assert not found.conflicting


def test_equally_believed_ends_that_differ_conflict_and_the_earlier_counts() -> None:
    first, second = end(output=7), end(output=8, time=T0 + timedelta(seconds=5))
    for order in ((first, second), (second, first)):
        found = facts(*order)
        assert found.end.event == first
        assert found.conflicting


def test_a_better_end_ends_a_conflict_of_worse_ones() -> None:
    guesses = (end(output=7), end(output=8))
    told = end(output=9, usage_source=UsageSource.PROVIDER)
    assert not facts(*guesses, told).conflicting
    assert facts(told, *guesses).end.event == told


def test_an_event_that_is_sent_again_with_another_time_contradicts_nothing() -> None:
    again = start(time=T0 + timedelta(seconds=1))
    found = facts(again, start())
    assert not found.conflicting
    assert found.start.event.time == T0


def test_starts_that_differ_conflict() -> None:
    assert facts(start(), start(model="claude-opus-4.6")).conflicting


def test_the_highest_counters_count_and_the_last_moment() -> None:
    found = facts(delivered(tokens=20, seq=2), delivered(tokens=10, seq=1), start())
    assert (found.delivered.seq, found.delivered.output_tokens) == (2, 20)
    assert found.last_event_at == T0 + timedelta(seconds=2)


def test_streams_are_apart_by_customer_and_id() -> None:
    assert set(fold([start("s"), start("s", customer_id="bolt"), start("t")])) == {
        ("acme", "s"),
        ("bolt", "s"),
        ("acme", "t"),
    }


def test_usage_is_the_ends_with_what_it_lacks_from_the_start_and_the_counters() -> None:
    ended = end(usage=Usage(cache_read_input_tokens=3))
    billed = billable_usage(facts(start(input_tokens=812), delivered(tokens=20), ended))
    assert billed.usage == Usage(input_tokens=812, output_tokens=20, cache_read_input_tokens=3)
    assert (billed.source, billed.input_unknown, billed.nothing) == (UsageSource.GATEWAY_COUNT, False, False)


def test_counters_without_an_end_are_an_estimate() -> None:
    billed = billable_usage(facts(start(), delivered(tokens=20)))
    assert (billed.source, billed.usage.output_tokens) == (UsageSource.ESTIMATE, 20)


def test_an_unknown_input_is_flagged() -> None:
    billed = billable_usage(facts(start(input_tokens=None), end(usage=Usage(output_tokens=7))))
    assert (billed.input_unknown, billed.usage.input_tokens) == (True, None)


@pytest.mark.parametrize("source", SOURCES)
def test_a_stream_that_delivered_nothing_is_billed_nothing_unless_its_provider_reports_usage(
    source: UsageSource | None,
) -> None:
    ended = end(usage=Usage(input_tokens=812, output_tokens=0), usage_source=source, outcome=Outcome.CANCELLED)
    billed = billable_usage(facts(start(), ended))
    assert billed.nothing == (source is not UsageSource.PROVIDER)
    assert billed.usage.input_tokens == (812 if source is UsageSource.PROVIDER else 0)


def test_a_provider_that_reports_no_counter_has_reported_nothing() -> None:
    ended = end(usage=Usage(), usage_source=UsageSource.PROVIDER, outcome=Outcome.CANCELLED)
    assert billable_usage(facts(start(), ended)).nothing
