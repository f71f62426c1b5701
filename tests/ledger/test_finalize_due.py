"""Finalize: one charge a stream, differences as adjustments, totals always the sum of what is booked."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import UsageSource
from metering.events.usage import UsageKind
from metering.ledger.finalize_due import FinalizeResult
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from metering.streams.settlement import State
from metering.streams.store.due import claim_due
from metering.stripe.put_customer import put_customer
from tests.builders import NOW, T0, Books, delivered, end, start


def test_an_ended_stream_is_charged_once_and_never_again(books: Books) -> None:
    books.receive([start(), end()])
    assert books.finalize().charged == 1
    assert books.finalize().claimed == 0
    view = books.stream()
    assert view.stream.state is State.FINALIZED
    assert view.cost_usd_cents == Decimal("0.4985")
    assert books.check_totals() == Decimal("0.4985")


def test_late_facts_book_the_difference_and_leave_the_charge_as_it_was(books: Books) -> None:
    books.receive([start(), end()])
    books.finalize()
    books.receive([end(output=40, usage_source=UsageSource.PROVIDER)])
    assert books.finalize().adjusted == 1
    view = books.stream()
    assert view.charge is not None
    assert view.charge.bill.usd_cents == Decimal("0.4985")
    assert [entry.usd_cents for entry in view.adjustments] == [Decimal("0.0075")]
    assert view.cost_usd_cents == Decimal("0.506") == books.check_totals()


def test_a_swept_stream_whose_end_comes_after_all_is_moved_to_its_real_outcome(books: Books) -> None:
    counted = delivered(time=T0)
    books.receive([start(), counted])
    assert books.finalize().claimed == 0
    swept_at = NOW + books.service.waits.abandon_after
    books.finalize(now=swept_at)
    assert books.total_groups() == {("abandoned", 1, Decimal("0.456"))}
    books.receive([end()], at=swept_at)
    books.finalize(now=swept_at)
    assert books.total_groups() == {("completed", 1, Decimal("0.4985"))}
    assert books.check_totals() == Decimal("0.4985")


def test_tokens_that_keep_coming_move_the_sweep_on(books: Books) -> None:
    books.receive([start()])
    soon = NOW + timedelta(minutes=14)
    books.receive([delivered(tokens=1, time=T0)], at=soon)
    books.finalize(now=NOW + timedelta(minutes=15))
    assert books.stream().stream.state is State.OPEN
    books.finalize(now=soon + timedelta(minutes=15))
    assert books.stream().stream.state is State.FINALIZED


def test_a_contradiction_takes_the_booked_bill_back_whatever_the_order(books: Books) -> None:
    books.receive([start("late"), end("late")])
    books.finalize()
    books.receive([start("late", model="claude-opus-4.6")])
    books.receive([start("early"), start("early", model="claude-opus-4.6"), end("early")])
    books.finalize()
    for stream_id in ("late", "early"):
        view = books.stream(stream_id)
        assert view.stream.state is State.CONFLICTING
        assert view.cost_usd_cents is None
    assert books.check_totals() == 0
    assert books.total_groups() == set()


def test_an_unpriced_stream_finalizes_by_itself_when_its_rate_arrives(books: Books) -> None:
    books.receive([start(provider="house", model="own-1"), end()])
    assert books.finalize().states == {State.UNPRICED: 1}
    assert books.finalize().claimed == 0
    set_rate(
        engine=books.service.engine,
        provider="house",
        model="own-1",
        effective_from=T0,
        rates=[Rate(kind=kind, usd_per_million=Decimal(1)) for kind in (UsageKind.INPUT, UsageKind.OUTPUT)],
        set_by="test",
        now=NOW,
    )
    assert books.finalize().charged == 1
    assert books.stream().cost_usd_cents == Decimal("0.0849")


def test_an_orphan_finalizes_by_itself_when_its_start_arrives(books: Books) -> None:
    books.receive([end()])
    assert books.finalize().states == {State.ENDED: 1}
    later = NOW + books.service.waits.start_grace
    assert books.finalize(now=later).states == {State.ORPHANED: 1}
    books.receive([start()], at=later)
    assert books.finalize(now=later).charged == 1


def test_several_workers_at_once_book_every_stream_exactly_once(books: Books) -> None:
    count = 400
    books.receive([event for place in range(count) for event in (start(f"s{place}"), end(f"s{place}"))])
    results: list[FinalizeResult] = []

    def work() -> None:
        for _ in range(100):
            result = books.finalize(limit=7)
            results.append(result)
            if not result.claimed:
                return

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(result.charged for result in results) == count
    assert sum(result.claimed > 0 for result in results) > count / 7
    assert books.check_totals() == Decimal("0.4985") * count


def test_the_period_is_the_month_of_the_end_in_the_customers_zone(books: Books) -> None:
    ended = datetime(2026, 11, 30, 16, tzinfo=UTC)
    tokyo = CustomerDetails(time_zone="Asia/Tokyo")
    put_customer(engine=books.service.engine, customer_id="acme", details=tokyo, now=ended)
    books.receive([start(), end(time=ended)], at=ended)
    books.finalize(now=datetime(2026, 12, 1, tzinfo=UTC))
    view = books.stream()
    assert view.charge is not None
    assert view.charge.period == "2026-12"


def test_a_batch_is_bounded_by_the_size_of_its_facts_and_the_rest_is_claimed_next(books: Books) -> None:
    long = [f"{place:03d}" * 300 for place in range(100)]
    books.receive([each for name in "abcde" for each in (start(name), end(name, finish_reasons=tuple(long)))])
    now = NOW + timedelta(minutes=1)
    with transaction(books.service.engine) as connection:
        claim = claim_due(connection, now=now, limit=100, max_characters=200_000)
        assert (len(claim.streams), claim.is_full) == (3, True)
    with transaction(books.service.engine) as connection:
        whole = claim_due(connection, now=now, limit=100)
        assert (len(whole.streams), whole.is_full) == (5, False)
        assert len(claim_due(connection, now=now, limit=2).streams) == 2
    assert books.finalize(now=now).charged == 5


def test_a_batch_is_full_at_its_limit_of_rows(books: Books) -> None:
    books.receive([each for name in "abc" for each in (start(name), end(name))])
    now = NOW + timedelta(minutes=1)
    with transaction(books.service.engine) as connection:
        assert claim_due(connection, now=now, limit=3).is_full
        assert not claim_due(connection, now=now, limit=4).is_full
