"""Set or end a budget. A new one counts what was spent in its window before it, and is enforced from then on.

A budget is made in two transactions. The first makes it known: every later booking is posted to it. The second
sums what was booked before, which takes long for a customer with much usage, while bookings go on.
"""

from datetime import datetime
from decimal import Decimal

from msgspec import Struct, structs
from sqlalchemy import Connection, Engine

from metering.access.actors import Author
from metering.access.store.audit_log import State, log_action
from metering.budgets.budget import ALL_TIME, Budget, BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.store.budgets import windows_at
from metering.budgets.store.definitions import (
    KnownBudget,
    add_budget,
    add_version,
    change_budget,
    find_budget,
    open_budget,
    sum_unposted,
)
from metering.core.errors import MeteringError
from metering.core.money import cents_text
from metering.customers.store import require_customer
from metering.db.engine import transaction
from metering.db.locks import Lock, take


class InvalidBudgetError(MeteringError):
    """The terms do not go together; the message names the field."""


class BudgetDiffersError(MeteringError):
    """The budget exists with another scope or window, which cannot change."""


class UnknownBudgetError(MeteringError):
    """No budget has this id."""


class BudgetTerms(Struct, frozen=True, kw_only=True):
    """What an admin sets. Without a limit, the balance of the customer's grants is the limit."""

    scope: BudgetScope
    window: BudgetWindow
    limit_usd_cents: Decimal | None
    action: BudgetAction = BudgetAction.REFUSE
    unknown_price_usd_cents: Decimal | None = None


def set_budget(*, engine: Engine, budget_id: str, terms: BudgetTerms, by: Author, now: datetime) -> Budget:
    """Make a budget, or change its limit, action or price for unknown models; the same terms change nothing.

    A budget that was ended begins again, with what its window has had meanwhile.

    Raises:
        InvalidBudgetError: a limit is missing or not possible, or is below 0.
        BudgetDiffersError: the id belongs to a budget with another scope or window.
        UnknownCustomerError: the customer does not exist.
    """
    _check(terms)
    with transaction(engine) as connection:
        take(connection, Lock.BUDGETS)
        known = find_budget(connection, budget_id=budget_id)
        if known is None:
            if terms.scope.kind is not ScopeKind.DEPLOYMENT:
                require_customer(connection, customer_id=terms.scope.customer_id)
            budget = _make(connection, budget_id, terms, now)
        else:
            budget = _change(connection, known, terms, now)
        if known is None or budget != known.budget or known.ended_at is not None:
            add_version(connection, budget, is_ended=False, by=str(by), now=now)
            before = _state(known.budget) if known is not None and known.ended_at is None else None
            _log(connection, "set", budget_id, before, _state(budget), by, now)
    return budget if budget.opened_at is not None else _open(engine, budget, now)


def end_budget(*, engine: Engine, budget_id: str, by: Author, now: datetime) -> None:
    """End a budget: it refuses nothing from now on. One that has ended stays as it is.

    Raises:
        UnknownBudgetError: no budget has this id.
    """
    with transaction(engine) as connection:
        take(connection, Lock.BUDGETS)
        known = find_budget(connection, budget_id=budget_id)
        if known is None:
            raise UnknownBudgetError(f"there is no budget {budget_id!r}")
        if known.ended_at is not None:
            return
        ended = structs.replace(known.budget, version=known.budget.version + 1)
        change_budget(connection, ended, counted_from=known.counted_from, opened_at=None, ended_at=now)
        add_version(connection, ended, is_ended=True, by=str(by), now=now)
        _log(connection, "end", budget_id, _state(known.budget), None, by, now)


def _check(terms: BudgetTerms) -> None:
    is_prepaid = terms.window is BudgetWindow.PREPAID
    if is_prepaid and terms.scope.kind is not ScopeKind.CUSTOMER:
        raise InvalidBudgetError("window: prepaid is for a customer as a whole, because its grants are")
    if is_prepaid and terms.limit_usd_cents is not None:
        raise InvalidBudgetError("limit_usd_cents: the balance of the grants is the limit of a prepaid budget")
    if not is_prepaid and terms.limit_usd_cents is None:
        raise InvalidBudgetError("limit_usd_cents: required for this window")
    for name, amount in (
        ("limit_usd_cents", terms.limit_usd_cents),
        ("unknown_price.flat_usd_cents", terms.unknown_price_usd_cents),
    ):
        if amount is not None and not (amount.is_finite() and amount >= 0):
            raise InvalidBudgetError(f"{name}: expected 0 or more, got {amount}")


def _make(connection: Connection, budget_id: str, terms: BudgetTerms, now: datetime) -> Budget:
    budget = Budget(
        budget_id=budget_id,
        scope=terms.scope,
        window=terms.window,
        limit_usd_cents=terms.limit_usd_cents,
        action=terms.action,
        unknown_price_usd_cents=terms.unknown_price_usd_cents,
        created_at=now,
    )
    add_budget(connection, budget, counted_from=_first_start(connection, budget, now))
    return budget


def _first_start(connection: Connection, budget: Budget, now: datetime) -> datetime:
    """The start of the first window that counts: that of `now`, which is stored if the budget begins again."""
    if budget.window is BudgetWindow.PREPAID:
        return ALL_TIME.starts_at
    return windows_at(connection, [(budget, now)])[budget.budget_id, now].span.starts_at


def _change(connection: Connection, known: KnownBudget, terms: BudgetTerms, now: datetime) -> Budget:
    before = known.budget
    if (terms.scope, terms.window) != (before.scope, before.window):
        raise BudgetDiffersError(
            f"budget {before.budget_id!r} has another scope or window, which cannot change: end it, or choose"
            " another id"
        )
    was = (before.limit_usd_cents, before.action, before.unknown_price_usd_cents)
    if was == (terms.limit_usd_cents, terms.action, terms.unknown_price_usd_cents) and known.ended_at is None:
        return before
    after = structs.replace(
        before,
        limit_usd_cents=terms.limit_usd_cents,
        action=terms.action,
        unknown_price_usd_cents=terms.unknown_price_usd_cents,
        version=before.version + 1,
        opened_at=before.opened_at if known.ended_at is None else None,
    )
    began = known.counted_from if known.ended_at is None else _first_start(connection, after, now)
    change_budget(connection, after, counted_from=began, opened_at=after.opened_at, ended_at=None)
    return after


def _open(engine: Engine, budget: Budget, now: datetime) -> Budget:
    """Sum what was booked before the budget was known, and enforce it. All later bookings are posted to it."""
    with transaction(engine) as connection:
        known = find_budget(connection, budget_id=budget.budget_id)
        assert known is not None  # budgets are never deleted
        unposted = sum_unposted(connection, budget, since=known.counted_from)
        take(connection, Lock.BUDGETS)
        return open_budget(connection, budget, unposted=unposted, now=now)


def _log(
    connection: Connection,
    action: str,
    budget_id: str,
    before: State | None,
    after: State | None,
    by: Author,
    now: datetime,
) -> None:
    log_action(
        connection, by=by, now=now, kind="budget", action=action, subject=budget_id, before=before, after=after
    )


def _state(budget: Budget) -> State:
    def cents(amount: Decimal | None) -> str | None:
        return None if amount is None else cents_text(amount)

    return {
        "scope": budget.scope.kind,
        "customer_id": budget.scope.customer_id,
        "api_key_id": budget.scope.api_key_id,
        "tag": {budget.scope.tag_name: budget.scope.tag_value} if budget.scope.tag_name else None,
        "window": budget.window,
        "limit_usd_cents": cents(budget.limit_usd_cents),
        "action": budget.action,
        "unknown_price_usd_cents": cents(budget.unknown_price_usd_cents),
    }
