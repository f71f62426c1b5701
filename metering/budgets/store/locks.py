"""The locks under which budgets, holds and grants of customers change."""

from collections.abc import Iterable

from sqlalchemy import Connection, text

from metering.budgets.budget import DEPLOYMENT
from metering.db.locks import Lock, share, take_money

_HAS_DEPLOYMENT_BUDGET = text("SELECT EXISTS (SELECT FROM budgets WHERE customer_id = '' AND ended_at IS NULL)")


def share_budgets(connection: Connection) -> None:
    """Keep budgets from being made, opened or ended until the transaction ends.

    The next statement sees them all.
    """
    share(connection, Lock.BUDGETS)


def lock_accounts(connection: Connection, customer_ids: Iterable[str]) -> None:
    """Hold what is spent, held and granted of these customers as it is until the transaction ends.

    Call it once in a transaction, after `share_budgets`. Transactions wait for each other only if they share a
    customer, or if there is a budget of the whole deployment.
    """
    wanted = set(customer_ids)
    if connection.execute(_HAS_DEPLOYMENT_BUDGET).scalar_one():
        wanted.add(DEPLOYMENT)
    take_money(connection, wanted)
