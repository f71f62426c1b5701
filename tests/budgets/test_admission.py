"""Admission: a hold fits all of its budgets, or nothing is held."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.budgets.admission import (
    Account,
    BudgetExhaustedError,
    admit,
    amount_without_price,
    refusing,
)
from metering.budgets.budget import ALL_TIME, Budget, BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.hold_price import HoldPrice


def account(
    limit: str,
    *,
    spent: str = "0",
    held: str = "0",
    action: BudgetAction = BudgetAction.REFUSE,
    flat: str | None = None,
) -> Account:
    budget = Budget(
        budget_id=f"limit {limit}",
        scope=BudgetScope(ScopeKind.DEPLOYMENT),
        window=BudgetWindow.TOTAL,
        limit_usd_cents=Decimal(limit),
        action=action,
        unknown_price_usd_cents=None if flat is None else Decimal(flat),
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    return Account(budget=budget, span=ALL_TIME, spent=Decimal(spent), held=Decimal(held))


def test_what_fits_exactly_is_held_in_every_budget() -> None:
    accounts = [account("10", spent="4", held="1"), account("100")]
    admit(accounts, amount=Decimal(5), price=None)
    assert [(each.held, each.newly_held) for each in accounts] == [(6, 5), (5, 5)]
    assert accounts[0].standing.headroom_usd_cents == 0


def test_the_tightest_budget_refuses_and_nothing_is_held() -> None:
    accounts = [account("10", spent="8"), account("9", spent="8"), account("100")]
    price = HoldPrice(Decimal("0.5"), Decimal("0.125"))
    with pytest.raises(BudgetExhaustedError) as refused:
        admit(accounts, amount=Decimal(5), price=price)
    assert (refused.value.standing.budget_id, refused.value.needed_usd_cents) == ("limit 9", 5)
    assert refused.value.max_output_tokens_that_fit == 4
    assert [each.held for each in accounts] == [0, 0, 0]


def test_a_budget_that_warns_refuses_nothing() -> None:
    assert refusing([account("1", action=BudgetAction.WARN)], amount=Decimal(5)) is None


def test_a_stream_without_a_price_is_held_for_the_most_that_its_budgets_say_and_only_if_all_say_something() -> (
    None
):
    assert amount_without_price([account("1", flat="3"), account("1", flat="7")]) == 7
    assert amount_without_price([account("1", flat="3"), account("1")]) is None
    assert amount_without_price([]) is None


@given(
    limits=st.lists(st.decimals(0, 50, places=3), min_size=1, max_size=4),
    amounts=st.lists(st.decimals(0, 20, places=3), max_size=20),
)
def test_no_order_of_holds_exceeds_a_limit(limits: list[Decimal], amounts: list[Decimal]) -> None:
    accounts = [account(str(limit)) for limit in limits]
    held = Decimal(0)
    for amount in amounts:
        try:
            admit(accounts, amount=amount, price=None)
        except BudgetExhaustedError:
            assert held + amount > min(limits)
        else:
            held += amount
            assert held <= min(limits)
    assert {each.held for each in accounts} == {held}
