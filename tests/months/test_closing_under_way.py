"""Closing while a booking, or another worker's closing, has not committed yet: one waits, the other lets be."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, event, text

from metering.months.close_months import close_step
from tests.builders import CLOSE_TERMS, Books, end, start
from tests.waiting import eventually

NOVEMBER = datetime(2026, 11, 12, 9, tzinfo=UTC)
CLOSING = datetime(2026, 12, 3, tzinfo=UTC)


@contextmanager
def held_before_its_commit(engine: Engine, work: Callable[[], object], *, having: str) -> Iterator[Future[object]]:
    """Do it in a thread up to the commit of the transaction that sees a row of `having`; then go on at the end."""
    held, go_on, worker = threading.Event(), threading.Event(), threading.local()

    def hold(connection: Connection) -> None:
        if getattr(worker, "is_held", False) and connection.execute(text(f"SELECT true FROM {having}")).first():
            held.set()
            go_on.wait(60)

    def begin() -> object:
        worker.is_held = True
        return work()

    event.listen(engine, "commit", hold)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(begin)
        try:
            assert held.wait(60)
            yield under_way
        finally:
            go_on.set()
    event.remove(engine, "commit", hold)
    under_way.result()


def used(books: Books) -> None:
    books.receive([start(time=NOVEMBER), end(time=NOVEMBER + timedelta(seconds=4))])


def is_waiting(books: Books) -> bool:
    return bool(books.sum_of("(SELECT count(*) AS usd_cents FROM pg_locks WHERE NOT granted) AS waiting"))


def test_a_booking_that_is_under_way_when_its_month_closes_is_on_its_invoice(books: Books) -> None:
    used(books)
    forced = {"now": CLOSING, "force_reason": "the booking is under way"}
    with ThreadPoolExecutor(1) as pool:
        with held_before_its_commit(
            books.service.engine, lambda: books.finalize(now=CLOSING), having="charges"
        ) as booking:
            closing = pool.submit(books.close, "2026-11", **forced)
            assert eventually(lambda: closing.done() or is_waiting(books), within=60)
            assert not closing.done()
        booking.result()
        assert closing.result() == {}
    assert [each.closed.entry_count for each in books.invoices()] == [1]


def test_a_customer_that_another_worker_invoices_is_let_be(books: Books) -> None:
    used(books)
    books.finalize(now=CLOSING)
    run = books.start_run("2026-11")

    def step() -> object:
        return close_step(engine=books.service.engine, run=run, terms=CLOSE_TERMS, now=CLOSING, limit=10)

    with ThreadPoolExecutor(1) as pool, held_before_its_commit(books.service.engine, step, having="invoices"):
        other = pool.submit(step)
        assert eventually(lambda: other.done() or is_waiting(books), within=60)
        assert other.done()
        assert (other.result().invoiced, other.result().refused) == (0, 0)  # type: ignore[attr-defined]
    assert books.close("2026-11") == {}
    assert len(books.invoices()) == 1
