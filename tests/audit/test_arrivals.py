"""When a stream's events arrived: clocks of API processes differ, and requests are committed together."""

from datetime import timedelta

import pytest

from metering.db.engine import transaction
from metering.events.read_stream_events import read_stream_events
from tests.audit.planting import Planting
from tests.builders import NOW, Books, end, start

SKEW = timedelta(minutes=5)
EVENTS = [start("s"), end("s")]


def seen(books: Books) -> int:
    """How many of the stream's events are found by it."""
    with transaction(books.service.engine) as connection:
        page = read_stream_events(connection, customer_id="acme", stream_id="s", begin=None, limit=10)
    assert page is not None
    return len(page.events)


def test_a_duplicate_by_a_process_whose_clock_is_behind_is_found_and_changes_nothing(books: Books) -> None:
    books.receive(EVENTS, at=NOW)
    books.finalize(now=NOW)
    books.receive(EVENTS, at=NOW - SKEW)
    assert seen(books) == 4
    assert books.finalize(now=NOW + SKEW).claimed == 0
    assert books.audit() == []


def test_a_duplicate_by_a_process_whose_clock_is_ahead_is_no_difference(books: Books) -> None:
    books.receive(EVENTS, at=NOW)
    books.receive(EVENTS, at=NOW + SKEW)
    books.finalize(now=NOW + SKEW)
    assert seen(books) == 4
    assert books.audit(now=NOW + SKEW) == []


def test_facts_by_processes_whose_clocks_differ_are_no_difference(books: Books) -> None:
    books.receive([start("s")], at=NOW)
    books.receive([end("s")], at=NOW - SKEW)
    books.finalize(now=NOW)
    assert seen(books) == 2
    assert books.audit() == []


def test_a_request_that_was_committed_with_one_that_waited_long_shares_its_arrival(books: Books) -> None:
    group = (NOW - SKEW, NOW + SKEW)
    books.receive([start("waited"), end("waited")], at=group[0], group=group)
    books.receive(EVENTS, at=NOW, group=group)
    books.receive([start("newest"), end("newest")], at=group[1], group=group)
    books.finalize(now=NOW + SKEW)
    assert seen(books) == 2
    assert books.audit(now=NOW + SKEW) == []


@pytest.mark.parametrize("name", ["first_received_at", "last_received_at"])
def test_a_time_at_which_nothing_arrived_is_found(planting: Planting, name: str) -> None:
    away = "-" if name.startswith("first") else "+"
    planting.plant(f"UPDATE streams SET {name} = {name} {away} interval '90 s' WHERE stream_id = 'completed'")
    assert [what[2].partition(":")[0] for what in planting.audit()] == [name]
