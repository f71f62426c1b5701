"""Alerts: which terms make one, and what is said of those that do not."""

from dataclasses import replace
from decimal import Decimal

import pytest

from metering.alerts.alerts import (
    MAX_NAME,
    MAX_THRESHOLDS,
    MAX_TRAILING_DAYS,
    UNITS,
    AlertKind,
    AlertScope,
    AlertTerms,
    InvalidAlertError,
    check_name,
    check_terms,
    scopes_of,
)

GOOD = {
    AlertKind.SPEND: {"budget_usd_cents": Decimal(100)},
    AlertKind.DAILY_CHANGE: {"floor_usd_cents": Decimal(0), "trailing_days": 7},
    AlertKind.ESTIMATED_SHARE: {"floor_usd_cents": Decimal(0)},
    AlertKind.DRIFT: {},
    AlertKind.BACKLOG_AGE: {},
    AlertKind.PRICE_CHANGE: {},
    AlertKind.INCONSISTENT_USAGE: {},
    AlertKind.BUDGET: {},
    AlertKind.BALANCE_BELOW: {},
}


def terms(kind: AlertKind, *thresholds: str, **changes: object) -> AlertTerms:
    plain = AlertTerms(
        kind=kind,
        scope=AlertScope.EACH_CUSTOMER,
        customer_id=None,
        thresholds=tuple(map(Decimal, thresholds or ("50",))),
        **GOOD[kind],  # type: ignore[arg-type]
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def problem(wrong: AlertTerms) -> str:
    with pytest.raises(InvalidAlertError) as error:
        check_terms(wrong)
    return str(error.value)


@pytest.mark.parametrize("kind", AlertKind)
def test_each_kind_has_a_unit_a_type_and_terms_that_make_sense(kind: AlertKind) -> None:
    check_terms(terms(kind))
    assert kind.message_type == f"alert.{kind}"
    assert UNITS[kind]


@pytest.mark.parametrize("kind", AlertKind)
@pytest.mark.parametrize("field", ["budget_usd_cents", "floor_usd_cents", "trailing_days"])
def test_a_field_is_there_exactly_where_the_kind_needs_it(kind: AlertKind, field: str) -> None:
    needed = field in GOOD[kind]
    wrong = terms(kind, **{field: None if needed else 1})
    assert problem(wrong) == f"{field}: {'required' if needed else 'not allowed'} for kind {kind}"


@pytest.mark.parametrize(
    ("scope", "customer_id"),
    [(AlertScope.CUSTOMER, None), (AlertScope.DEPLOYMENT, "acme"), (AlertScope.EACH_CUSTOMER, "acme")],
)
def test_only_an_alert_of_one_customer_names_it(scope: AlertScope, customer_id: str | None) -> None:
    assert "customer_id" in problem(terms(AlertKind.DRIFT, scope=scope, customer_id=customer_id))


@pytest.mark.parametrize("kind", AlertKind)
def test_balances_of_customers_are_not_added_up_and_everything_else_is(kind: AlertKind) -> None:
    for scope in (AlertScope.CUSTOMER, AlertScope.EACH_CUSTOMER):
        assert scope in scopes_of(kind)
    together = terms(kind, scope=AlertScope.DEPLOYMENT)
    if kind is AlertKind.BALANCE_BELOW:
        assert problem(together) == (
            "scope: expected customer or each_customer for kind balance_below, got deployment"
        )
    else:
        check_terms(together)


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        (AlertKind.SPEND, "0.01", "10000"),
        (AlertKind.DAILY_CHANGE, "-100", "1000000"),
        (AlertKind.ESTIMATED_SHARE, "0.01", "100"),
        (AlertKind.DRIFT, "0", "1000000000000000"),
        (AlertKind.BACKLOG_AGE, "0.01", "8760"),
        (AlertKind.PRICE_CHANGE, "0", "1000000000000000"),
        (AlertKind.BUDGET, "0.01", "10000"),
        (AlertKind.BALANCE_BELOW, "0", "1000000000000000"),
    ],
)
def test_thresholds_are_within_the_range_of_their_kind(kind: AlertKind, least: str, most: str) -> None:
    check_terms(terms(kind, least, most))
    step = Decimal("0.001")
    for outside in (str(Decimal(least) - step), str(Decimal(most) + step), "NaN", "Infinity"):
        assert f"expected {UNITS[kind]} from" in problem(terms(kind, outside))


def test_a_change_of_nothing_is_no_threshold() -> None:
    assert "except 0" in problem(terms(AlertKind.DAILY_CHANGE, "0"))


def test_thresholds_are_one_to_ten_and_each_there_once() -> None:
    many = [str(number) for number in range(1, MAX_THRESHOLDS + 2)]
    check_terms(terms(AlertKind.SPEND, *many[:-1]))
    assert "got 11" in problem(terms(AlertKind.SPEND, *many))
    assert "got 0" in problem(terms(AlertKind.SPEND, thresholds=()))
    assert "each value once" in problem(terms(AlertKind.SPEND, "50", "50.0"))


@pytest.mark.parametrize("budget", ["0", "-1", "NaN", "Infinity", "1000000000000001"])
def test_a_budget_is_above_zero(budget: str) -> None:
    assert "budget_usd_cents" in problem(terms(AlertKind.SPEND, budget_usd_cents=Decimal(budget)))


@pytest.mark.parametrize("floor", ["-0.01", "NaN", "1000000000000001"])
def test_a_floor_is_not_below_zero(floor: str) -> None:
    assert "floor_usd_cents" in problem(terms(AlertKind.ESTIMATED_SHARE, floor_usd_cents=Decimal(floor)))


def test_a_day_is_compared_with_one_to_31_days() -> None:
    for days in (1, MAX_TRAILING_DAYS):
        check_terms(terms(AlertKind.DAILY_CHANGE, trailing_days=days))
    for days in (0, MAX_TRAILING_DAYS + 1):
        assert "trailing_days" in problem(terms(AlertKind.DAILY_CHANGE, trailing_days=days))


def test_a_name_has_one_to_256_characters() -> None:
    check_name("n")
    check_name("n" * MAX_NAME)
    for name in ("", "n" * (MAX_NAME + 1)):
        with pytest.raises(InvalidAlertError, match="name: expected 1 to 256"):
            check_name(name)
