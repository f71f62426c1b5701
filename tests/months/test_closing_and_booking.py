"""Closing while others book, close as well, or die: every entry is on exactly one invoice."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import pytest

from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.ledger.store.open_periods import lock_open_periods, wait_for_bookings
from metering.months import close_months
from metering.months.close_months import close_step
from metering.months.store.runs import finish_run
from tests.builders import CLOSE_TERMS, NOW, Books, end, start

NOVEMBER = datetime(2026, 11, 12, 9, tzinfo=UTC)
CLOSING = datetime(2026, 12, 3, tzinfo=UTC)


def use(books: Books, customer_ids: list[str], streams: range) -> None:
    with books.owner() as connection:
        for customer_id in customer_ids:
            connection.execute(
                "INSERT INTO customers (customer_id, created_at) VALUES (%s, now()) ON CONFLICT DO NOTHING",
                (customer_id,),
            )
    events = [
        make(f"s{number}", customer_id=customer_id, time=NOVEMBER + timedelta(minutes=number))
        for customer_id in customer_ids
        for number in streams
        for make in (start, end)
    ]
    books.receive(events)


def test_closing_waits_for_bookings_that_began_before_it_and_they_are_on_its_invoice(books: Books) -> None:
    use(books, ["acme"], range(1))
    closed = threading.Event()
    with ThreadPoolExecutor(1) as pool, transaction(books.service.engine) as connection:
        periods = lock_open_periods(connection, ["acme"])
        waiting = pool.submit(lambda: (wait_for_bookings(books.service.engine), closed.set()))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        assert periods.period(customer_id="acme", at=NOVEMBER) == "2026-11"
        connection.commit()
        waiting.result(timeout=60)
    assert closed.is_set()
    books.finalize(now=NOW + timedelta(minutes=1))


def test_while_finalizers_and_closers_run_at_once_every_charge_is_on_exactly_one_invoice(books: Books) -> None:
    customers = [f"c{number:03d}" for number in range(60)]
    use(books, customers, range(20))
    run = books.start_run("2026-11", force_reason="they settle meanwhile")
    stop = threading.Event()

    def close() -> int:
        steps = 0
        while books.sum_of("charges") < 100:
            pass
        while not close_step(engine=books.service.engine, run=run, terms=CLOSE_TERMS, now=CLOSING, limit=7).done:
            steps += 1
        return steps

    def finalize() -> int:
        charged = 0
        while not stop.is_set():
            result = books.finalize(now=CLOSING, limit=20)
            charged += result.charged
            if not result.claimed:
                break
        return charged

    with ThreadPoolExecutor(4) as pool:
        finalizing = [pool.submit(finalize) for _ in range(2)]
        closing = [pool.submit(close) for _ in range(2)]
        assert sum(each.result() for each in closing) >= 60 // 7
        assert sum(each.result() for each in finalizing) == 1200
    with transaction(books.service.engine) as connection:
        finish_run(connection, run.run_id, now=CLOSING)
    with books.owner() as connection:
        by_month = dict(connection.execute("SELECT period, count(*) FROM charges GROUP BY 1").fetchall())
    assert set(by_month) == {"2026-11", "2026-12"}, "the race was not one: all was booked before or after"
    books.close("2026-12")
    for customer_id in customers:
        assert sum(each.closed.entry_count for each in books.invoices(customer_id)) == 20
        last = books.invoices(customer_id)[-1].invoice
        billed = sum(each.invoice.billed_cents for each in books.invoices(customer_id))
        assert billed + last.remainder_usd_cents == 20 * Decimal("0.4985")


def test_who_was_marked_when_a_worker_died_is_invoiced_by_the_next(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(books, ["acme", "other"], range(3))
    books.finalize(now=CLOSING)
    run = books.start_run("2026-11")

    def die(_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(close_months, "wait_for_bookings", die)
    with pytest.raises(SystemExit):
        close_step(engine=books.service.engine, run=run, terms=CLOSE_TERMS, now=CLOSING, limit=100)
    monkeypatch.undo()
    assert books.invoices() == []
    books.close("2026-11")
    assert [each.closed.entry_count for each in books.invoices() + books.invoices("other")] == [3, 3]


def test_a_failing_customer_is_reported_and_delays_no_other(books: Books) -> None:
    customers = [f"c{number}" for number in range(5)]
    use(books, customers, range(1))
    books.finalize(now=CLOSING)
    with books.owner() as connection:
        # 70 digits: more than any sum of money may have.
        connection.execute("UPDATE charges SET usd_cents = 1e-69 WHERE customer_id = 'c3'")
        connection.execute(
            'INSERT INTO charges SELECT (jsonb_populate_record(c, \'{"stream_id": "big", "usd_cents": 1e9}\')).*'
            " FROM charges c WHERE customer_id = 'c3'"
        )
    refused = books.close("2026-11")
    assert list(refused) == ["c3"]
    assert "Inexact" in refused["c3"]
    assert all(books.invoices(customer_id) for customer_id in customers if customer_id != "c3")
    with books.owner() as connection:
        connection.execute("DELETE FROM charges WHERE stream_id = 'big'")
        connection.execute("UPDATE charges SET usd_cents = 0.4985 WHERE customer_id = 'c3'")
    assert books.close("2026-11") == {}
    assert books.invoices("c3")


def test_the_seal_can_be_made_again_from_the_entries_with_a_pencil(books: Books) -> None:
    use(books, ["acme"], range(2000, 2003))  # on two days
    books.finalize(now=CLOSING)
    books.close("2026-11")
    with books.owner() as connection:
        rows = connection.execute("SELECT ended_at, charge_id, usd_cents FROM charges").fetchall()
    days: dict[str, list[str]] = {}
    for ended_at, charge_id, usd_cents in rows:
        day = ended_at.astimezone(UTC).date().isoformat()
        days.setdefault(day, []).append(f"{charge_id} {usd_cents.normalize():f}")
    hashes = [f"{day} {sha256(chr(10).join(sorted(days[day])).encode()).hexdigest()}" for day in sorted(days)]
    assert books.invoices()[0].closed.seal == sha256("\n".join(hashes).encode()).digest()


def test_two_runs_for_the_same_are_one(books: Books) -> None:
    one, other = books.start_run("2026-11"), books.start_run("2026-11")
    assert one == other
    assert books.start_run("2026-11", customer_id="acme").run_id != one.run_id
    assert one.period == BillingPeriod(2026, 11)
