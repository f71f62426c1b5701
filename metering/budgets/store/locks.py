"""The locks under which budgets, holds and grants of customers change."""

from collections.abc import Iterable

from sqlalchemy import Connection, text

from metering.budgets.budget import DEPLOYMENT
from metering.db.locks import Lock, share, sharing, take_money
from metering.db.together import Query, ask_two

_HAS_DEPLOYMENT = Query(
    text("SELECT EXISTS (SELECT FROM budgets WHERE customer_id = '' AND ended_at IS NULL)"),
    {},
    lambda rows: bool(rows[0][0]),
)


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
    _take(connection, customer_ids, has_deployment=_HAS_DEPLOYMENT.ask(connection))


def share_and_lock(connection: Connection, customer_ids: Iterable[str]) -> None:
    """`share_budgets` and `lock_accounts`, with one wait less."""
    _, has_deployment = ask_two(connection, sharing(Lock.BUDGETS), _HAS_DEPLOYMENT)
    _take(connection, customer_ids, has_deployment=has_deployment)


def _take(connection: Connection, customer_ids: Iterable[str], *, has_deployment: bool) -> None:
    wanted = {*customer_ids, DEPLOYMENT} if has_deployment else customer_ids
    take_money(connection, wanted)
