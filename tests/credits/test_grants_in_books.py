"""Grants in a real database: drawn in the transaction that books, once per key, and never changed afterwards."""

import threading
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest

from metering.access.store.idempotency import IdempotencyKeyReusedError
from metering.core.period import BillingPeriod
from metering.corrections.rerate import rerate
from metering.credits.end_grant import (
    GrantNotActiveError,
    UnknownGrantError,
    refund_grant,
    void_grant,
)
from metering.credits.grant import Funding, GrantLimits, GrantState
from metering.credits.queries.balances import balance_as_of, balance_now, balances_of
from metering.credits.terms import InvalidGrantError
from metering.customers.store import UnknownCustomerError
from metering.db.engine import transaction
from metering.events.events import UsageSource
from metering.events.usage import UsageKind
from metering.ledger.queries.charges import BillFilter
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from tests.builders import NOW, T0, Books, end, start
from tests.credits.scenes import COST, again, credit, entries, give, rows, use

DAY = timedelta(days=1)


def test_a_charge_is_paid_in_the_transaction_that_books_it(books: Books) -> None:
    made = give(books, "100", paid=50)
    use(books)
    assert entries(books) == [("granted", Decimal(100)), ("drawn", -COST)]
    assert again(books, made).balance_usd_cents == 100 - COST
    charged = rows(books, "SELECT charge_id, period FROM charges")
    assert rows(books, "SELECT entry_id, entry_period FROM grant_entries WHERE kind = 'drawn'") == charged
    assert rows(books, "SELECT drawn_usd_cents FROM prepaid_months") == [(COST,)]


def test_late_facts_draw_more_and_restore(books: Books) -> None:
    give(books)
    use(books)
    books.receive([end("s", output=38, time=T0 + timedelta(seconds=5))])
    books.receive([start("t"), end("t", output=40)])
    books.finalize()
    credit(books, "-0.1", stream_id="t")
    assert [kind for kind, _ in entries(books)][-1] == "restored"
    booked = books.check_totals()
    assert rows(books, "SELECT sum(drawn_usd_cents) FROM prepaid_months") == [(booked,)]


def test_what_a_credit_had_covered_already_is_not_paid_once_more(books: Books) -> None:
    give(books)
    use(books)
    credit(books, f"-{COST + Decimal('0.01')}")
    # Of five more output tokens, 0.01 of 0.0125 cents are covered by what the credit left over.
    books.receive([end("s", output=42, time=T0 + timedelta(seconds=5), usage_source=UsageSource.PROVIDER)])
    books.finalize()
    assert entries(books)[-2:] == [("restored", COST), ("drawn", Decimal("-0.0025"))]


def test_a_rerating_below_restores_the_difference(books: Books) -> None:
    give(books)
    use(books)
    set_rate(
        engine=books.service.engine,
        provider="anthropic",
        model="claude-opus-4-7",
        effective_from=T0 - timedelta(hours=1),
        rates=[Rate(kind=kind, usd_per_million=Decimal(1)) for kind in (UsageKind.INPUT, UsageKind.OUTPUT)],
        set_by="test",
        now=NOW,
    )
    where = BillFilter(period=BillingPeriod.parse("2026-11"))
    rerate(engine=books.service.engine, price_books=books.service.price_books, where=where, now=NOW, book=True)
    assert entries(books)[-1] == ("restored", COST - Decimal("0.0849"))


def test_a_credit_for_a_stream_returns_to_its_grant_and_one_for_the_customer_does_not(books: Books) -> None:
    made = give(books)
    use(books)
    credit(books, "-0.2", key="one")
    credit(books, "-5", stream_id=None, key="two")
    assert entries(books)[1:] == [("drawn", -COST), ("restored", Decimal("0.2"))]
    assert again(books, made).balance_usd_cents == 100 - COST + Decimal("0.2")


def test_a_debit_for_the_customer_is_drawn_by_grants_without_limits_only(books: Books) -> None:
    give(books, limits=GrantLimits(models=("claude-opus-4.7",)), key="limited")
    give(books, key="open")
    credit(books, "3", stream_id=None)
    limited, unlimited = rows(books, "SELECT balance_usd_cents FROM grants ORDER BY only_models NULLS LAST")
    assert (limited, unlimited) == ((Decimal(100),), (Decimal(97),))


def test_two_grants_pay_for_one_stream_when_the_first_is_used_up(books: Books) -> None:
    first, second = give(books, "0.1", priority=1), give(books, key="second")
    use(books)
    assert (again(books, first).balance_usd_cents, again(books, second).balance_usd_cents) == (
        0,
        100 - COST + Decimal("0.1"),
    )


def test_a_grant_is_made_once_however_often_it_is_asked_for(books: Books) -> None:
    made = give(books, key="order 7")
    use(books)
    assert give(books, key="order 7", at=T0 + DAY) == again(books, made)
    assert rows(books, "SELECT count(*) FROM grants") == [(1,)]
    with pytest.raises(IdempotencyKeyReusedError):
        give(books, "101", key="order 7")


def test_a_grant_for_an_unknown_customer_is_refused(books: Books) -> None:
    with pytest.raises(UnknownCustomerError):
        give(books, customer_id="globex")


def test_voiding_takes_back_what_is_left_once(books: Books) -> None:
    made = give(books)
    use(books)
    ended = [
        void_grant(engine=books.service.engine, grant_id=made.grant_id, reason="mistake", by="finance", now=NOW)
        for _ in range(2)
    ]
    assert ended[0] == ended[1] == again(books, made)
    assert ended[0].state is GrantState.VOIDED
    use(books, "next")
    assert entries(books)[2:] == [("voided", COST - 100)]
    log = rows(books, "SELECT action, after ->> 'reason' FROM audit_log WHERE kind = 'grant' ORDER BY audit_id")
    assert log == [("create", "test"), ("void", "mistake")]


def test_what_returns_to_a_voided_grant_is_voided_at_once(books: Books) -> None:
    made = give(books)
    use(books)
    void_grant(engine=books.service.engine, grant_id=made.grant_id, reason="mistake", by="finance", now=NOW)
    credit(books, "-0.2")
    assert entries(books)[-2:] == [("restored", Decimal("0.2")), ("voided", Decimal("-0.2"))]


def refund(books: Books, grant_id: str, usd_cents: str | None = None, key: str = "r"):  # type: ignore[no-untyped-def]
    return refund_grant(
        engine=books.service.engine,
        idempotency_key=key,
        grant_id=grant_id,
        usd_cents=None if usd_cents is None else Decimal(usd_cents),
        reason="contract ended",
        by="finance",
        now=NOW,
    )


def test_a_refund_says_which_part_of_the_price_to_pay_back(books: Books) -> None:
    made = give(books, "100", paid=50)
    use(books)
    half = refund(books, made.grant_id, "49.5015")
    assert (half.usd_cents, half.released_cents) == (Decimal("-49.5015"), 25)
    assert refund(books, made.grant_id, "49.5015") == half
    rest = refund(books, made.grant_id, key="rest")
    assert half.released_cents + rest.released_cents == 50
    assert again(books, made).balance_usd_cents == 0
    with pytest.raises(GrantNotActiveError):
        refund(books, made.grant_id, key="third")


def test_credit_that_returns_after_a_refund_can_be_spent_or_refunded_once_more_and_no_more(books: Books) -> None:
    """Double refund of a late settle: the refund paid for what was left, and the rest is paid for once."""
    made = give(books, "10", paid=1000)
    use(books)
    first = refund(books, made.grant_id)
    credit(books, "-0.4985")
    second = refund(books, made.grant_id, key="again")
    assert first.released_cents + second.released_cents == 1000
    credit(books, "-0.0001", key="nothing is left to restore")
    assert again(books, made).balance_usd_cents == 0


def test_what_cannot_be_refunded_is_refused(books: Books) -> None:
    promotional, sold = give(books), give(books, paid=10, key="sold")
    with pytest.raises(InvalidGrantError, match="promotional"):
        refund(books, promotional.grant_id)
    for amount in ("0", "-1", "101", "NaN"):
        with pytest.raises(InvalidGrantError, match="usd_cents"):
            refund(books, sold.grant_id, amount, key=amount)
    with pytest.raises(UnknownGrantError):
        refund(books, "gr_none")


def test_expired_credit_is_not_a_balance_although_no_sweeper_ran(books: Books) -> None:
    give(books, expires_at=T0 + DAY)
    give(books, "5", key="later", effective_from=T0 + 2 * DAY)
    give(books, "7", key="limited", limits=GrantLimits(providers=("openai",)))
    with transaction(books.service.engine) as connection:
        found = [balances_of(connection, ["acme", "bolt"], at=T0 + DAY * days) for days in (0, 1, 2)]
        left = [each.balance_usd_cents for each in balance_now(connection, customer_id="acme", at=T0 + DAY)]
    assert found == [{"acme": amount, "bolt": 0} for amount in (100, 0, 5)]
    assert sorted(left) == [5, 7]
    assert [kind for kind, _ in entries(books)] == ["granted"] * 3


def test_a_balance_of_the_past_counts_what_has_expired_or_been_drawn_since(books: Books) -> None:
    give(books, expires_at=NOW + DAY)
    use(books)
    use(books, "late", now=NOW + 2 * DAY)
    with transaction(books.service.engine) as connection:
        found = [
            sum(each.balance_usd_cents for each in balance_as_of(connection, customer_id="acme", at=at))
            for at in (T0 - DAY, T0, NOW, NOW + DAY)
        ]
    assert found == [0, 100, 100 - COST, 0]


def test_an_invoiced_grant_pays_nothing_before_it_is_paid(books: Books) -> None:
    made = give(books, paid=1000, funding=Funding.INVOICE)
    use(books)
    assert (made.state, entries(books)) == (GrantState.PENDING, [])
    void_grant(engine=books.service.engine, grant_id=made.grant_id, reason="not paid", by="finance", now=NOW)
    assert entries(books) == []


def test_concurrent_bookings_never_draw_more_than_there_is(books: Books) -> None:
    made = give(books, "2")
    books.receive([event for number in range(40) for event in (start(f"s{number}"), end(f"s{number}"))])
    threads = [threading.Thread(target=lambda: books.finalize(limit=3)) for _ in range(6)]
    for _ in range(3):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        threads = [threading.Thread(target=lambda: books.finalize(limit=3)) for _ in range(6)]
    books.finalize()
    assert again(books, made).balance_usd_cents == 0
    assert sum(amount for kind, amount in entries(books) if kind == "drawn") == -2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE grants SET amount_usd_cents = 1",
        "UPDATE grants SET expires_at = NULL",
        "UPDATE grant_entries SET usd_cents = 0",
        "DELETE FROM grant_entries",
        "DELETE FROM grants",
    ],
)
def test_the_service_cannot_change_what_was_granted_or_booked(books: Books, statement: str) -> None:
    give(books)
    with (
        psycopg.connect(books.database.url, options="-c role=metering_service") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_a_grant_that_is_used_up_gets_back_what_is_taken_back(books: Books) -> None:
    made = give(books, "0.1")
    use(books)
    assert again(books, made).balance_usd_cents == 0
    credit(books, "-0.05")
    assert again(books, made).balance_usd_cents == Decimal("0.05")


def test_a_deployment_without_grants_pays_one_query_for_them(books: Books) -> None:
    use(books)
    assert rows(books, "SELECT count(*) FROM prepaid_months") == [(0,)]
