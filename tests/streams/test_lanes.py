"""Claims by lane, as on Citus: they run on plain PostgreSQL too, so here two workers meet on it."""

from datetime import timedelta

from sqlalchemy import Connection, text

from metering.db.engine import transaction
from metering.streams.store.lanes import LaneClaim, claim_keys, claim_streams
from metering.streams.store.streams import StoredStream, lock_due_streams
from tests.builders import NOW, Books, delivered, end, start

NEXT = NOW + timedelta(minutes=1)
ENOUGH = 1 << 20


def receive(books: Books, names: list[str]) -> None:
    books.receive([each for name in names for each in (start(name), end(name))])


def claim(connection: Connection, limit: int, **changes: object) -> tuple[list[StoredStream], bool]:
    wanted = {"now": NEXT, "limit": limit, "newest_first": False, "without": (), **changes}
    return claim_streams(connection, LaneClaim(**wanted), max_characters=ENOUGH)  # type: ignore[arg-type]


def keys(streams: list[StoredStream]) -> set[str]:
    return {each.facts.stream_id for each in streams}


def test_all_that_is_due_is_claimed_from_all_lanes_if_it_fits(books: Books) -> None:
    names = [f"s{place:03}" for place in range(150)]
    receive(books, names)
    with transaction(books.service.engine) as connection:
        streams, is_full = claim(connection, 151)
        assert (keys(streams), is_full) == (set(names), False)
    books.finalize(now=NEXT)


def test_two_workers_claim_different_streams_and_all_are_claimed_in_the_end(books: Books) -> None:
    names = [f"s{place:03}" for place in range(150)]
    receive(books, names)
    engine = books.service.engine
    with transaction(engine) as one, transaction(engine) as other:
        first, is_full = claim(one, 40)
        second, is_full_too = claim(other, 40)
        assert (len(first), len(second), is_full, is_full_too) == (40, 40, True, True)
        assert not keys(first) & keys(second)
    with transaction(engine) as connection:
        # What ended without marking anything, such as a worker that died, holds no lane.
        assert keys(claim(connection, 151)[0]) == set(names)
    books.finalize(now=NEXT)


def test_a_worker_whose_lanes_are_taken_finds_nothing_and_does_not_wait(books: Books) -> None:
    receive(books, ["a", "b", "c"])
    with transaction(books.service.engine) as one, transaction(books.service.engine) as other:
        assert len(claim(one, 4)[0]) == 3
        assert claim(other, 4) == ([], False)
    books.finalize(now=NEXT)


def test_a_stream_that_changed_after_it_was_found_is_read_as_it_is_now(books: Books) -> None:
    receive(books, ["a"])
    with transaction(books.service.engine) as connection:
        wanted = LaneClaim(now=NEXT, limit=2, newest_first=False, without=())
        found = claim_keys(connection, wanted, max_characters=ENOUGH)
        assert found == ([("acme", "a")], False)
        books.receive([delivered("a", seq=7)])
        ((stream,), _) = claim(connection, 2)
        assert stream.facts.delivered is not None
        assert stream.facts.delivered.seq == 7
    books.finalize(now=NEXT)


def test_a_stream_that_is_no_longer_due_once_it_is_locked_is_left_alone(books: Books) -> None:
    receive(books, ["a", "b"])
    with transaction(books.service.engine) as connection:
        wanted = LaneClaim(now=NEXT, limit=3, newest_first=False, without=())
        found, _ = claim_keys(connection, wanted, max_characters=ENOUGH)
        assert len(found) == 2
        connection.execute(text("UPDATE streams SET due_at = NULL WHERE stream_id = 'a'"))
        assert keys(lock_due_streams(connection, found, now=NEXT)) == {"b"}
        connection.execute(text("UPDATE streams SET due_at = :now WHERE stream_id = 'a'"), {"now": NOW})
    books.finalize(now=NEXT)


def test_those_of_a_crowding_customer_are_left_out(books: Books) -> None:
    receive(books, ["a", "b"])
    with transaction(books.service.engine) as connection:
        assert claim(connection, 3, without=["acme"]) == ([], False)
        assert len(claim(connection, 3, without=["hooli"])[0]) == 2
    books.finalize(now=NEXT)


def test_the_newest_come_first_if_they_are_wanted(books: Books) -> None:
    books.receive([start("old"), end("old")], at=NOW - timedelta(minutes=5))
    receive(books, ["new"])
    with transaction(books.service.engine) as connection:
        streams, _ = claim(connection, 9, newest_first=True)
        assert [each.facts.stream_id for each in streams] == ["new", "old"]
    books.finalize(now=NEXT)


def test_a_batch_ends_with_the_stream_by_which_its_facts_are_too_long(books: Books) -> None:
    receive(books, ["a", "b", "c"])
    with transaction(books.service.engine) as connection:
        wanted = LaneClaim(now=NEXT, limit=9, newest_first=False, without=())
        found, is_full = claim_keys(connection, wanted, max_characters=1)
        assert (len(found), is_full) == (1, True)
    books.finalize(now=NEXT)
