"""Retries are linked, whatever is found out first; both streams are billed, and totals tell them apart."""

import threading
from datetime import datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from metering.db.engine import transaction
from metering.events.events import Outcome, UsageEvent, UsageSource
from metering.events.usage import Usage
from metering.streams.settlement import State
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import read_totals
from metering.totals.ranges import Granularity
from tests.builders import NOW, T0, Books, delivered, end, start
from tests.database import is_cluster

ASKED = {"request_hash": "h1", "api_key_id": "k1"}
COST = Decimal("0.4985")


def interrupted(stream_id: str, outcome: Outcome = Outcome.CANCELLED, *, ended: datetime = T0) -> list[UsageEvent]:
    begun = ended - timedelta(seconds=9)
    return [start(stream_id, time=begun, **ASKED), end(stream_id, time=ended, outcome=outcome)]


def attempt(stream_id: str, *, after: timedelta = timedelta(seconds=2), **changes: object) -> list[UsageEvent]:
    begun = T0 + after
    return [
        start(stream_id, time=begun, **{**ASKED, **changes}),
        end(stream_id, time=begun + timedelta(seconds=5)),
    ]


def retry_of(books: Books, stream_id: str) -> str | None:
    bill = books.stream(stream_id).newest_bill
    assert bill is not None
    return bill.retry_of


def totals_by_retry(books: Books) -> dict[object, tuple[int, Decimal]]:
    question = TotalsQuestion(
        from_=T0 - timedelta(days=1),
        to=T0 + timedelta(days=1),
        granularity=Granularity.NONE,
        group_by=[Group.RETRY],
        customer_id=None,
        after=None,
        limit=10,
    )
    with transaction(books.service.engine) as connection:
        rows = read_totals(connection, question=question, accruals=[])
    return {row.group["retry"]: (row.stream_count, row.usd_cents) for row in rows}


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.FAILED])
def test_a_stream_that_asks_again_is_linked_and_both_are_billed(books: Books, outcome: Outcome) -> None:
    books.receive([*interrupted("first", outcome), *attempt("again")])
    books.finalize()
    assert retry_of(books, "again") == "first"
    assert retry_of(books, "first") is None
    assert books.check_totals() == 2 * COST
    assert totals_by_retry(books) == {False: (1, COST), True: (1, COST)}


@pytest.mark.parametrize(
    ("after", "linked"),
    [(timedelta(0), True), (timedelta(minutes=10), True), (timedelta(minutes=10, microseconds=1), False),
     (timedelta(microseconds=-1), False)],
)  # fmt: skip
def test_only_a_start_shortly_after_the_early_end_is_a_retry(books: Books, after: timedelta, linked: bool) -> None:
    books.receive([*interrupted("first"), *attempt("again", after=after)])
    books.finalize()
    assert (retry_of(books, "again") == "first") is linked


@pytest.mark.parametrize("changes", [{"request_hash": "h2"}, {"request_hash": None}, {"api_key_id": "k2"}])
def test_another_request_or_key_is_no_retry(books: Books, changes: dict[str, object]) -> None:
    books.receive([*interrupted("first"), *attempt("again", **changes)])
    books.finalize()
    assert retry_of(books, "again") is None


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.TIMED_OUT])
def test_what_follows_a_stream_that_did_not_end_early_is_no_retry(books: Books, outcome: Outcome) -> None:
    books.receive([*interrupted("first", outcome), *attempt("again")])
    books.finalize()
    assert retry_of(books, "again") is None


def test_a_stream_without_a_rate_that_completed_after_all_was_not_interrupted(books: Books) -> None:
    """It was swept and put into the backlog, so that nothing was booked when its end came."""
    unpriced = {"provider": "house", "model": "own-1"}
    books.receive([start("first", **ASKED, **unpriced), delivered("first")])
    books.finalize(now=NOW + books.service.waits.abandon_after)
    assert books.stream("first").stream.state is State.UNPRICED
    later = NOW + timedelta(hours=1)
    books.receive([end("first")], at=later)
    books.finalize(now=later)
    assert books.audit(now=later) == []


def test_a_stream_in_the_backlog_that_goes_on_and_completes_was_not_interrupted(books: Books) -> None:
    silent = books.service.waits.abandon_after
    books.receive([start("first", **ASKED, model="nobody-knows-it"), delivered("first")])
    books.finalize(now=NOW + silent)
    assert books.stream("first").stream.state is State.UNPRICED
    # It is due when it was silent since the first of these, and is on its way then.
    books.receive([delivered("first", 30, seq=30)], at=NOW + silent)
    books.receive([delivered("first", 31, seq=31)], at=NOW + 1.5 * silent)
    books.finalize(now=NOW + 2 * silent)
    assert books.stream("first").stream.state is State.OPEN
    books.receive([end("first"), *attempt("again")], at=NOW + 2 * silent)
    books.finalize(now=NOW + 2 * silent)
    assert books.audit(now=NOW + 2 * silent) == []
    assert retry_of(books, "again") is None


@pytest.mark.parametrize("before", [timedelta(seconds=-1), timedelta(seconds=1)])
def test_a_start_that_wins_and_names_no_request_takes_the_interruption_back(
    books: Books, before: timedelta
) -> None:
    books.receive([*interrupted("first"), *attempt("again")])
    books.finalize()
    assert retry_of(books, "again") == "first"
    books.receive([start("first", time=T0 - timedelta(seconds=9) - before)])
    for _ in range(3):
        books.finalize()
        books.link_retries()
    books.finalize()
    assert books.audit() == []
    key = books.stream("first").stream.facts.start
    assert key is not None
    assert retry_of(books, "again") == (None if key.event.request_hash is None else "first")


def test_a_start_that_wins_and_names_another_request_takes_the_link_back(books: Books) -> None:
    books.receive([*interrupted("first"), *attempt("again"), *attempt("other", api_key_id="k2")])
    books.finalize()
    assert (retry_of(books, "again"), retry_of(books, "other")) == ("first", None)
    for earlier, key in ((10, "k3"), (11, "k2"), (12, "k4"), (13, "k2")):
        begun = T0 - timedelta(seconds=earlier)
        books.receive([start("first", time=begun, **{**ASKED, "api_key_id": key})])
        books.finalize()
    for _ in range(3):
        books.link_retries()
        books.finalize()
    assert books.audit() == []
    assert (retry_of(books, "again"), retry_of(books, "other")) == (None, "first")


def test_the_latest_of_several_interruptions_counts(books: Books) -> None:
    books.receive(
        [*interrupted("early", ended=T0 - timedelta(minutes=1)), *interrupted("late"), *attempt("again")]
    )
    books.finalize()
    assert retry_of(books, "again") == "late"


def test_a_stream_that_is_swept_after_its_retry_was_booked_is_linked_then(books: Books) -> None:
    books.receive([start("silent", **ASKED), *attempt("again")])
    books.finalize()
    assert retry_of(books, "again") is None
    swept_at = NOW + books.service.waits.abandon_after
    books.finalize(now=swept_at)
    assert [books.link_retries(now=swept_at) for _ in range(3)] == [0, 1, 0]
    books.finalize(now=swept_at)
    assert retry_of(books, "again") == "silent"
    adjustments = books.stream("again").adjustments
    assert [adjustment.usd_cents for adjustment in adjustments] == [0]
    assert totals_by_retry(books) == {False: (1, Decimal(0)), True: (1, COST)}
    books.check_totals()


def test_a_link_is_taken_back_when_the_first_stream_turns_out_complete(books: Books) -> None:
    books.receive([*interrupted("first"), *attempt("again")])
    books.finalize()
    real_end = end(
        "first", time=T0, usage=Usage(input_tokens=812, output_tokens=37), usage_source=UsageSource.PROVIDER
    )
    books.receive([real_end])
    books.finalize()
    assert books.stream("first").newest_bill.outcome is Outcome.COMPLETED  # type: ignore[union-attr]
    assert [books.link_retries() for _ in range(2)] == [0, 1]
    books.finalize()
    assert retry_of(books, "again") is None
    assert totals_by_retry(books) == {False: (2, 2 * COST)}


def test_finalizers_at_work_at_the_same_time_miss_no_retry(books: Books) -> None:
    count = 60
    events = [
        event
        for place in range(count)
        for event in (
            start(f"first{place}", time=T0 - timedelta(seconds=9), request_hash=f"r{place}"),
            end(f"first{place}", time=T0, outcome=Outcome.CANCELLED),
            start(f"again{place}", time=T0 + timedelta(seconds=1), request_hash=f"r{place}"),
            end(f"again{place}", time=T0 + timedelta(seconds=2)),
        )
    ]
    books.receive(events)
    threads = [threading.Thread(target=_finalize_all, args=(books,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        books.link_retries()
        _finalize_all(books)
    assert {retry_of(books, f"again{place}") for place in range(count)} == {
        f"first{place}" for place in range(count)
    }
    assert books.check_totals() == 2 * count * COST


def _finalize_all(books: Books) -> None:
    while books.finalize(limit=7).claimed:
        pass


@pytest.mark.skipif(is_cluster(), reason="on Citus what links waits for bookings, and for no other transaction")
def test_an_interruption_is_not_looked_up_while_a_transaction_that_could_not_see_it_is_under_way(
    books: Books,
) -> None:
    books.receive(interrupted("first"))
    with psycopg.connect(books.database.url) as beside:
        beside.execute("SELECT pg_current_xact_id()")
        books.finalize()
        books.receive(attempt("again"))
        books.finalize()
        assert [_unsettled(books) for _ in range(3) if books.link_retries() == 0] == [1, 1, 1]
        beside.rollback()
    books.link_retries()
    assert _unsettled(books) == 0
    assert books.stream("again").stream.state is State.FINALIZED


def _unsettled(books: Books) -> int:
    with books.owner() as connection:
        row = connection.execute("SELECT count(*) FROM interrupted_streams WHERE NOT linked").fetchone()
    assert row is not None
    return int(row[0])
