"""Budgets: a limit with a scope and a window."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

from metering.core.money import EXACT, ZERO
from metering.core.period import BillingPeriod, day_bounds

# The customer id of a budget for the whole deployment.
DEPLOYMENT = ""


class ScopeKind(StrEnum):
    """Whose spending a budget limits."""

    CUSTOMER = "customer"
    API_KEY = "api_key"
    TAG = "tag"
    DEPLOYMENT = "deployment"


class BudgetWindow(StrEnum):
    """The time that a limit is for. `PREPAID` has no time: its limit is the balance of the customer's grants."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"
    PREPAID = "prepaid"


class BudgetAction(StrEnum):
    """What happens to a stream that does not fit: it is refused, or it passes and is counted."""

    REFUSE = "refuse"
    WARN = "warn"


class BudgetScope(Struct, frozen=True, gc=False):
    """A customer, one of its gateway keys, one of its tags, or (`DEPLOYMENT`) everything."""

    kind: ScopeKind
    customer_id: str = DEPLOYMENT
    api_key_id: str | None = None
    tag_name: str | None = None
    tag_value: str | None = None

    def covers(self, *, customer_id: str, api_key_id: str | None, tags: Mapping[str, str]) -> bool:
        """Whether a stream of this customer, key and tags counts against the budget."""
        if self.kind is ScopeKind.DEPLOYMENT:
            return True
        if customer_id != self.customer_id:
            return False
        if self.kind is ScopeKind.API_KEY:
            return api_key_id == self.api_key_id
        return self.kind is ScopeKind.CUSTOMER or tags.get(self.tag_name or "") == self.tag_value


class Span(NamedTuple):
    """A time range, half-open, in UTC."""

    starts_at: datetime
    ends_at: datetime

    def contains(self, at: datetime) -> bool:
        """Whether `at` is in the range."""
        return self.starts_at <= at < self.ends_at


# Streams outside of these years are never billed by their own times (`streams/dating.py`).
ALL_TIME = Span(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


def window_at(window: BudgetWindow, *, at: datetime, time_zone: ZoneInfo) -> Span:
    """The window that contains `at`: a day or month in this time zone, or all time."""
    match window:
        case BudgetWindow.DAY:
            local = at.astimezone(time_zone)
            return Span(*day_bounds(date(local.year, local.month, local.day), time_zone=time_zone))
        case BudgetWindow.MONTH:
            month = BillingPeriod.containing(at=at, time_zone=time_zone)
            starts, ends = month.start(time_zone=time_zone), month.next.start(time_zone=time_zone)
            return Span(starts.astimezone(UTC), ends.astimezone(UTC))
        case BudgetWindow.TOTAL | BudgetWindow.PREPAID:
            return ALL_TIME


class Budget(Struct, frozen=True, kw_only=True, gc=False):
    """A budget as it is now. `limit_usd_cents` is None where the balance of the customer's grants is the limit.

    `unknown_price_usd_cents` is held for a stream whose model has no price; None: such streams are refused.
    `held_usd_cents` is the sum of its open holds. Before `opened_at`, it counts and refuses nothing.
    """

    budget_id: str
    scope: BudgetScope
    window: BudgetWindow
    limit_usd_cents: Decimal | None
    action: BudgetAction = BudgetAction.REFUSE
    unknown_price_usd_cents: Decimal | None = None
    version: int = 1
    held_usd_cents: Decimal = ZERO
    created_at: datetime
    opened_at: datetime | None = None


class Standing(Struct, frozen=True, kw_only=True, gc=False):
    """A budget's figures in one window, in exact cents. `resets_at` is None for a window without an end.

    For a prepaid budget, `limit_usd_cents` is what is left of the grants, and `spent_usd_cents` is 0.
    """

    budget_id: str
    limit_usd_cents: Decimal
    spent_usd_cents: Decimal
    held_usd_cents: Decimal
    starts_at: datetime | None
    resets_at: datetime | None

    @property
    def headroom_usd_cents(self) -> Decimal:
        """What may still be held: limit - spent - held. Below zero when it is overspent."""
        return EXACT.subtract(self.limit_usd_cents, EXACT.add(self.spent_usd_cents, self.held_usd_cents))


def standing_of(budget: Budget, *, span: Span, spent: Decimal, held: Decimal, balance: Decimal) -> Standing:
    """The figures of a budget in the window `span`; `balance` is what is left of its customer's grants."""
    is_prepaid = budget.limit_usd_cents is None
    has_end = budget.window in (BudgetWindow.DAY, BudgetWindow.MONTH)
    return Standing(
        budget_id=budget.budget_id,
        limit_usd_cents=balance if budget.limit_usd_cents is None else budget.limit_usd_cents,
        spent_usd_cents=ZERO if is_prepaid else spent,
        held_usd_cents=held,
        starts_at=span.starts_at if has_end else None,
        resets_at=span.ends_at if has_end else None,
    )
