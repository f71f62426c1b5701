"""Refusals: of a group of answers, how many holds each budget refused, and the first of them."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from metering.budgets.admission import Account, BudgetExhaustedError
from metering.budgets.budget import ALL_TIME, Budget, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.hold_price import PriceUnknownError
from metering.budgets.refusals import minute_of, refusals_of
from tests.builders.budgets import asked

NOW = datetime(2026, 11, 23, 15, 30, 59, 999_999, tzinfo=UTC)
BUDGETS = ("a", "b", "everything")


def refused(budget_id: str, needed: int = 7) -> BudgetExhaustedError:
    scope = BudgetScope(ScopeKind.DEPLOYMENT)
    if budget_id != "everything":
        scope = BudgetScope(ScopeKind.CUSTOMER, f"customer {budget_id}")
    budget = Budget(
        budget_id=budget_id, scope=scope, window=BudgetWindow.TOTAL, limit_usd_cents=Decimal(5), created_at=NOW
    )
    account = Account(budget=budget, span=ALL_TIME, spent=Decimal(3), held=Decimal(1))
    return BudgetExhaustedError(account, needed=Decimal(needed))


def test_the_first_refusal_of_each_budget_is_kept_and_the_others_are_counted() -> None:
    answers = [
        (asked("s1", customer_id="customer a"), refused("a", 2)),
        (asked("s2", customer_id="customer b"), refused("everything", 3)),
        (asked("s3", customer_id="customer a"), refused("a", 4)),
    ]
    first, second = refusals_of(answers, now=NOW)
    assert (first.customer_id, first.budget_id, first.refusal_count) == ("customer a", "a", 2)
    assert (first.refused_customer_id, first.stream_id, first.needed_usd_cents) == ("customer a", "s1", 2)
    assert (first.provider, first.model) == ("anthropic", "claude-opus-4.7")
    assert (first.standing.spent_usd_cents, first.standing.headroom_usd_cents) == (3, 1)
    assert (second.customer_id, second.budget_id, second.refusal_count) == ("", "everything", 1)
    assert second.refused_customer_id == "customer b"
    assert {each.minute for each in (first, second)} == {datetime(2026, 11, 23, 15, 30, tzinfo=UTC)}


_ANSWERS = st.lists(st.sampled_from([*BUDGETS, "held", "no price"]), max_size=50)


@given(_ANSWERS)
def test_every_refusal_is_counted_once_and_nothing_else_is(names: list[str]) -> None:
    others = {"held": object(), "no price": PriceUnknownError("there is no price")}
    answers = [(asked(f"s{number}"), others.get(name) or refused(name)) for number, name in enumerate(names)]
    found = refusals_of(answers, now=NOW)
    counted = {each.budget_id: each.refusal_count for each in found}
    assert counted == Counter(name for name in names if name in BUDGETS)
    assert [each.stream_id for each in found] == [f"s{names.index(each.budget_id)}" for each in found]


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_minute_contains_its_time(at: datetime) -> None:
    minute = minute_of(at)
    assert minute <= at < minute + timedelta(minutes=1)
    assert minute_of(minute) == minute
