"""Budgets: what a scope covers, which window contains a time, what headroom is."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.budgets.budget import (
    ALL_TIME,
    Budget,
    BudgetScope,
    BudgetWindow,
    ScopeKind,
    standing_of,
    window_at,
)

AT = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (BudgetScope(ScopeKind.DEPLOYMENT), {"acme", "acme k", "acme x", "globex"}),
        (BudgetScope(ScopeKind.CUSTOMER, "acme"), {"acme", "acme k", "acme x"}),
        (BudgetScope(ScopeKind.API_KEY, "acme", "k"), {"acme k"}),
        (BudgetScope(ScopeKind.TAG, "acme", tag_name="team", tag_value="x"), {"acme x"}),
    ],
)
def test_a_scope_covers_its_customer_key_or_tag(scope: BudgetScope, covered: set[str]) -> None:
    streams = {
        "acme": ("acme", None, {}),
        "acme k": ("acme", "k", {"team": "y"}),
        "acme x": ("acme", None, {"team": "x"}),
        "globex": ("globex", "k", {"team": "x"}),
    }
    found = {
        name
        for name, (customer_id, api_key_id, tags) in streams.items()
        if scope.covers(customer_id=customer_id, api_key_id=api_key_id, tags=tags)
    }
    assert found == covered - ({"globex"} if scope.kind is not ScopeKind.DEPLOYMENT else set())


def test_days_and_months_are_those_of_the_time_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    day = window_at(BudgetWindow.DAY, at=AT, time_zone=berlin)
    assert day == (datetime(2026, 11, 30, 23, tzinfo=UTC), datetime(2026, 12, 1, 23, tzinfo=UTC))
    month = window_at(BudgetWindow.MONTH, at=AT, time_zone=berlin)
    assert month == (datetime(2026, 11, 30, 23, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC))
    assert window_at(BudgetWindow.TOTAL, at=AT, time_zone=berlin) == ALL_TIME


@given(
    minutes=st.integers(0, 3 * 365 * 24 * 60),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    window=st.sampled_from([BudgetWindow.DAY, BudgetWindow.MONTH]),
)
def test_every_time_is_in_its_window_and_windows_follow_each_other(
    minutes: int, zone: str, window: BudgetWindow
) -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    span = window_at(window, at=at, time_zone=ZoneInfo(zone))
    assert span.contains(at)
    after = window_at(window, at=span.ends_at, time_zone=ZoneInfo(zone))
    assert after.starts_at == span.ends_at


def test_headroom_is_the_limit_without_what_is_spent_and_held() -> None:
    budget = Budget(
        budget_id="b",
        scope=BudgetScope(ScopeKind.CUSTOMER, "acme"),
        window=BudgetWindow.MONTH,
        limit_usd_cents=Decimal(100),
        created_at=AT,
    )
    span = window_at(BudgetWindow.MONTH, at=AT, time_zone=ZoneInfo("UTC"))
    figures = {"span": span, "spent": Decimal("60.5"), "held": Decimal("39.6"), "balance": Decimal(7)}
    standing = standing_of(budget, **figures)  # type: ignore[arg-type]
    assert (standing.headroom_usd_cents, standing.resets_at) == (
        Decimal("-0.1"),
        datetime(2026, 12, 1, tzinfo=UTC),
    )


def test_the_limit_of_a_prepaid_budget_is_the_balance() -> None:
    budget = Budget(
        budget_id="b",
        scope=BudgetScope(ScopeKind.CUSTOMER, "acme"),
        window=BudgetWindow.PREPAID,
        limit_usd_cents=None,
        created_at=AT,
    )
    standing = standing_of(budget, span=ALL_TIME, spent=Decimal(5), held=Decimal(1), balance=Decimal(7))
    assert (standing.limit_usd_cents, standing.spent_usd_cents, standing.headroom_usd_cents) == (7, 0, 6)
    assert standing.resets_at is None
