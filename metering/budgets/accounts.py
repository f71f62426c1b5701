"""Accounts: the budgets of customers with their figures at a time, for admission."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from metering.budgets.admission import Account
from metering.budgets.budget import ALL_TIME, BudgetWindow
from metering.budgets.holds import Hold
from metering.budgets.store.budgets import add_held, budgets_of, windows_at
from metering.core.money import EXACT, ZERO
from metering.credits.queries.balances import balances_of


class Accounts:
    """The open budgets of some customers and of the deployment, in the window that contains a time."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts = {account.budget.budget_id: account for account in accounts}

    def covering(self, *, customer_id: str, api_key_id: str | None, tags: Mapping[str, str]) -> Sequence[Account]:
        """The budgets that a stream of this customer, key and tags counts against."""
        return [
            account
            for account in self._accounts.values()
            if account.budget.scope.covers(customer_id=customer_id, api_key_id=api_key_id, tags=tags)
        ]

    def named(self, budget_ids: Iterable[str]) -> Sequence[Account]:
        """The budgets with these ids, as far as they have not ended."""
        return [self._accounts[each] for each in budget_ids if each in self._accounts]

    def give_back(self, hold: Hold) -> None:
        """Give back what a hold holds, to those of its budgets that have not ended."""
        for account in self.named(hold.budget_ids):
            account.hold(EXACT.minus(hold.held_usd_cents))

    def write(self, connection: Connection) -> None:
        """Store what was held and given back."""
        changed = [account for account in self._accounts.values() if account.newly_held]
        add_held(connection, [(account.budget, account.newly_held) for account in changed])
        for account in changed:
            account.newly_held = ZERO


def open_accounts(connection: Connection, customer_ids: Iterable[str], *, now: datetime) -> Accounts:
    """The accounts of these customers. Call it with them locked (`store.locks.lock_accounts`)."""
    budgets = [each.budget for each in budgets_of(connection, customer_ids) if each.budget.opened_at is not None]
    prepaid = {each.scope.customer_id for each in budgets if each.window is BudgetWindow.PREPAID}
    dated = [(each, now) for each in budgets if each.window is not BudgetWindow.PREPAID]
    windows = windows_at(connection, dated) if dated else {}
    balances = balances_of(connection, prepaid, at=now) if prepaid else {}
    accounts: list[Account] = []
    for budget in budgets:
        window = windows.get((budget.budget_id, now))
        accounts.append(
            Account(
                budget=budget,
                span=window.span if window else ALL_TIME,
                spent=window.spent_usd_cents if window else ZERO,
                held=EXACT.plus(budget.held_usd_cents),
                balance=balances.get(budget.scope.customer_id, ZERO),
            )
        )
    return Accounts(accounts)
