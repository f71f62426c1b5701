"""A prepaid budget admits what the balance covers, and nothing more: no overage needs no second mechanism."""

import threading
from decimal import Decimal
from typing import Any

import pytest

from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.budget import BudgetWindow
from metering.budgets.holds import Hold
from metering.credits.grant import GrantLimits
from tests.builders import Books, end, start
from tests.builders.budgets import Purse, asked
from tests.builders.events import NOW, T0
from tests.credits.scenes import COST, credit, entries, give

# What `asked` holds: the input and 100 output tokens of claude-opus-4.7.
HELD = Decimal("0.656")


@pytest.fixture
def purse(books: Books) -> Purse:
    give(books, "1")
    purse = Purse(books.service)
    purse.set(limit=None, window=BudgetWindow.PREPAID)
    return purse


def test_what_the_balance_does_not_cover_is_refused(purse: Purse) -> None:
    first, second = purse.ask(asked("a"), asked("b"))
    assert isinstance(first, Hold)
    assert [each.headroom_usd_cents for each in first.standings] == [1 - HELD]
    assert isinstance(second, BudgetExhaustedError)
    assert second.standing.limit_usd_cents == 1


def test_booking_moves_the_amount_from_held_to_drawn(books: Books, purse: Purse) -> None:
    purse.hold(asked("s"))
    books.receive([start("s"), end("s")])
    books.finalize()
    (refused,) = purse.ask(asked("next"))
    assert isinstance(refused, BudgetExhaustedError)
    assert (refused.standing.limit_usd_cents, refused.standing.held_usd_cents) == (1 - COST, 0)
    assert entries(books)[-1] == ("drawn", -COST)


def test_a_new_grant_and_a_restored_draw_let_the_next_stream_pass(books: Books, purse: Purse) -> None:
    purse.hold(asked("s"))
    books.receive([start("s"), end("s")])
    books.finalize()
    credit(books, f"{-COST}")
    assert isinstance(purse.hold(asked("next")), Hold)
    give(books, "5", key="more", at=NOW)
    assert isinstance(purse.hold(asked("and another")), Hold)


@pytest.mark.parametrize(
    "terms",
    [
        {"limits": GrantLimits(providers=("anthropic",))},
        {"limits": GrantLimits(models=("claude-opus-4.7",))},
        {"effective_from": NOW.replace(year=2027)},
        {"expires_at": NOW},
    ],
    ids=["of a provider", "of a model", "not effective yet", "expired, and no sweeper ran"],
)
def test_what_may_not_pay_for_every_stream_now_admits_none(
    books: Books, purse: Purse, terms: dict[str, Any]
) -> None:
    give(books, "50", key="other", at=T0, **terms)
    assert isinstance(purse.hold(asked("a")), Hold)
    assert isinstance(purse.ask(asked("b"))[0], BudgetExhaustedError)


def test_concurrent_requests_do_not_pass_one_balance(purse: Purse) -> None:
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda number=number: answers.extend(purse.ask(asked(f"s{number}"))))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert sum(isinstance(answer, Hold) for answer in answers) == 1


def test_a_balance_that_is_used_up_between_admission_and_booking_is_an_overrun_and_owed(
    books: Books, purse: Purse
) -> None:
    purse.hold(asked("s"))
    credit(books, "0.9", stream_id=None)
    books.receive([start("s"), end("s")])
    books.finalize()
    assert sum(amount for kind, amount in entries(books) if kind == "drawn") == -1
    books.close("2026-11")
    (stored,) = books.invoices()
    assert stored.invoice.exact_usd_cents - stored.invoice.prepaid_usd_cents == COST + Decimal("0.9") - 1
