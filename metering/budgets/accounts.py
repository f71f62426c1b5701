"""Accounts: the budgets of customers with their figures at a time, for admission."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from metering.budgets.admission import Account
from metering.budgets.budget import ALL_TIME, Budget, BudgetWindow
from metering.budgets.holds import Hold
from metering.budgets.store.budgets import StoredWindow, adding_held, open_budgets, windows_at
from metering.core.money import EXACT, ZERO
from metering.credits.queries.balances import balances_of
from metering.db.together import Statement, run_together


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

    def write(self, connection: Connection, *also: Statement) -> None:
        """Store what was held and given back, and run these statements."""
        changed = [account for account in self._accounts.values() if account.newly_held]
        held = adding_held([(account.budget, account.newly_held) for account in changed])
        run_together(connection, *held, *also)
        for account in changed:
            account.newly_held = ZERO


def open_accounts(connection: Connection, customer_ids: Iterable[str], *, now: datetime) -> Accounts:
    """The accounts of these customers. Call it with them locked (`store.locks.lock_accounts`)."""
    return accounts_of(connection, open_budgets(customer_ids, at=now).ask(connection), now=now)


def accounts_of(
    connection: Connection, opened: Sequence[tuple[Budget, StoredWindow | None]], *, now: datetime
) -> Accounts:
    """The accounts of budgets that were read at `now`. Windows that are missing are made."""
    prepaid = {each.scope.customer_id for each, _ in opened if each.window is BudgetWindow.PREPAID}
    missing = [
        (each, now) for each, window in opened if window is None and each.window is not BudgetWindow.PREPAID
    ]
    made = windows_at(connection, missing) if missing else {}
    balances = balances_of(connection, prepaid, at=now) if prepaid else {}
    accounts: list[Account] = []
    for budget, stored in opened:
        window = stored or made.get((budget.budget_id, now))
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
