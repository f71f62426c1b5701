"""Alerts: what is watched, for which customers, and the thresholds that fire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from metering.core.errors import MeteringError
from metering.core.money import ZERO


class AlertKind(StrEnum):
    """What an alert watches. `UNITS` has the unit of each kind's thresholds."""

    SPEND = "spend"
    DAILY_CHANGE = "daily_change"
    ESTIMATED_SHARE = "estimated_share"
    DRIFT = "drift"
    BACKLOG_AGE = "backlog_age"
    PRICE_CHANGE = "price_change"
    INCONSISTENT_USAGE = "inconsistent_usage"
    BUDGET = "budget"
    BALANCE_BELOW = "balance_below"

    @property
    def message_type(self) -> str:
        """The `type` of the messages of this kind."""
        return f"alert.{self.value}"


# The unit of thresholds and measured values.
UNITS: Mapping[AlertKind, str] = {
    AlertKind.SPEND: "percent_of_budget",
    AlertKind.DAILY_CHANGE: "percent",
    AlertKind.ESTIMATED_SHARE: "percent",
    AlertKind.DRIFT: "usd_cents",
    AlertKind.BACKLOG_AGE: "hours",
    AlertKind.PRICE_CHANGE: "usd_cents",
    AlertKind.INCONSISTENT_USAGE: "streams",
    AlertKind.BUDGET: "percent_of_limit",
    AlertKind.BALANCE_BELOW: "usd_cents",
}


class AlertScope(StrEnum):
    """One customer, each customer separately, or all customers together."""

    CUSTOMER = "customer"
    EACH_CUSTOMER = "each_customer"
    DEPLOYMENT = "deployment"


def scopes_of(kind: AlertKind) -> Sequence[AlertScope]:
    """The scopes that an alert of a kind can have. Balances are not added up: one customer's pays for no other."""
    each = (AlertScope.CUSTOMER, AlertScope.EACH_CUSTOMER)
    return each if kind is AlertKind.BALANCE_BELOW else (*each, AlertScope.DEPLOYMENT)


# Stands for the deployment in place of a customer's id; no customer's id is empty.
DEPLOYMENT = ""

MAX_THRESHOLDS = 10
MAX_TRAILING_DAYS = 31
DEFAULT_TRAILING_DAYS = 7
# A shared alert is compared with every measured amount, so these bound the work of one evaluation.
MAX_ALERTS_PER_CUSTOMER = 20
MAX_SHARED_ALERTS = 100


class InvalidAlertError(MeteringError):
    """The terms are invalid; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTerms:
    """When an alert fires. The kind decides which of the optional fields are required.

    Thresholds of a spend alert are percents of `budget_usd_cents`, those of a budget alert of each budget's limit.
    A daily change, or an estimated share, of an amount below `floor_usd_cents` never fires. A day is compared with
    the mean of the `trailing_days` before it.
    """

    kind: AlertKind
    scope: AlertScope
    customer_id: str | None
    thresholds: tuple[Decimal, ...]
    budget_usd_cents: Decimal | None = None
    floor_usd_cents: Decimal | None = None
    trailing_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert. Changing its terms increments `version`, so that it can fire again in the current windows."""

    alert_id: str
    version: int
    name: str
    terms: AlertTerms
    enabled: bool
    created_by: str
    created_at: datetime
    changed_at: datetime


_MOST_CENTS = Decimal(10**15)
# Smallest and largest threshold, both included.
_RANGES: Mapping[AlertKind, tuple[Decimal, Decimal]] = {
    AlertKind.SPEND: (Decimal("0.01"), Decimal(10_000)),
    AlertKind.DAILY_CHANGE: (Decimal(-100), Decimal(1_000_000)),
    AlertKind.ESTIMATED_SHARE: (Decimal("0.01"), Decimal(100)),
    AlertKind.DRIFT: (ZERO, _MOST_CENTS),
    AlertKind.BACKLOG_AGE: (Decimal("0.01"), Decimal(8_760)),
    AlertKind.PRICE_CHANGE: (ZERO, _MOST_CENTS),
    AlertKind.INCONSISTENT_USAGE: (Decimal(1), Decimal(10**9)),
    AlertKind.BUDGET: (Decimal("0.01"), Decimal(10_000)),
    AlertKind.BALANCE_BELOW: (ZERO, _MOST_CENTS),
}
_WITH_FLOOR = (AlertKind.DAILY_CHANGE, AlertKind.ESTIMATED_SHARE)


MAX_NAME = 256


def check_name(name: str) -> None:
    """Refuse a name that is empty or too long.

    Raises:
        InvalidAlertError: names the allowed length.
    """
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidAlertError(f"name: expected 1 to {MAX_NAME} characters, got {len(name)}")


def check_terms(terms: AlertTerms) -> None:
    """Refuse invalid terms.

    Raises:
        InvalidAlertError: names the field and what was expected.
    """
    if (terms.scope is AlertScope.CUSTOMER) != (terms.customer_id is not None):
        raise InvalidAlertError("customer_id: required for scope customer, and not allowed for any other scope")
    kind = terms.kind
    if terms.scope not in scopes_of(kind):
        raise InvalidAlertError(
            f"scope: expected {' or '.join(scopes_of(kind))} for kind {kind}, got {terms.scope}"
        )
    _check_thresholds(terms)
    _check_presence("budget_usd_cents", terms.budget_usd_cents, required=kind is AlertKind.SPEND, kind=kind)
    _check_presence("floor_usd_cents", terms.floor_usd_cents, required=kind in _WITH_FLOOR, kind=kind)
    _check_presence("trailing_days", terms.trailing_days, required=kind is AlertKind.DAILY_CHANGE, kind=kind)
    budget, floor = terms.budget_usd_cents, terms.floor_usd_cents
    if budget is not None and not (budget.is_finite() and 0 < budget <= _MOST_CENTS):
        raise InvalidAlertError(f"budget_usd_cents: expected cents above 0, up to {_MOST_CENTS:,}, got {budget}")
    if floor is not None and not (floor.is_finite() and 0 <= floor <= _MOST_CENTS):
        raise InvalidAlertError(f"floor_usd_cents: expected cents from 0 to {_MOST_CENTS:,}, got {floor}")
    if terms.trailing_days is not None and not 1 <= terms.trailing_days <= MAX_TRAILING_DAYS:
        raise InvalidAlertError(f"trailing_days: expected 1 to {MAX_TRAILING_DAYS}, got {terms.trailing_days}")


def _check_thresholds(terms: AlertTerms) -> None:
    if not 1 <= len(terms.thresholds) <= MAX_THRESHOLDS:
        raise InvalidAlertError(f"thresholds: expected 1 to {MAX_THRESHOLDS} values, got {len(terms.thresholds)}")
    least, most = _RANGES[terms.kind]
    for threshold in terms.thresholds:
        in_range = threshold.is_finite() and least <= threshold <= most
        if not in_range or (terms.kind is AlertKind.DAILY_CHANGE and not threshold):
            except_zero = " except 0" if terms.kind is AlertKind.DAILY_CHANGE else ""
            raise InvalidAlertError(
                f"thresholds: expected {UNITS[terms.kind]} from {least} to {most}{except_zero}, got {threshold}"
            )
    if len(set(terms.thresholds)) != len(terms.thresholds):
        raise InvalidAlertError("thresholds: expected each value once")


def _check_presence(field: str, value: object, *, required: bool, kind: AlertKind) -> None:
    if required and value is None:
        raise InvalidAlertError(f"{field}: required for kind {kind}")
    if not required and value is not None:
        raise InvalidAlertError(f"{field}: not allowed for kind {kind}")
