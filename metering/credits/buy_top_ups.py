"""Buy top-ups: make a pending grant for each customer whose balance is low; `stripe/` makes its invoice."""

from datetime import datetime

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.core.money import cents_text
from metering.credits.create_grant import put_grant
from metering.credits.grant import Grant
from metering.credits.queries.balances import balances_of
from metering.credits.store.top_ups import bought_top_ups, find_top_up, low_customers, put_top_up
from metering.credits.top_up import TopUp, check_top_up, is_due, terms_of
from metering.customers.store import require_customer
from metering.db.engine import transaction
from metering.db.locks import take_money

_BATCH = 100


def set_top_up(*, engine: Engine, top_up: TopUp, by: Author, now: datetime) -> TopUp:
    """Set when a customer's top-ups are bought. Repeating this changes nothing but its time.

    Raises:
        UnknownCustomerError: the customer does not exist.
        InvalidTopUpError: an amount or the number is out of range.
    """
    check_top_up(
        when_below_usd_cents=top_up.when_below_usd_cents,
        buy_usd_cents=top_up.buy_usd_cents,
        at_most_a_day=top_up.at_most_a_day,
    )
    with transaction(engine) as connection:
        require_customer(connection, customer_id=top_up.customer_id)
        take_money(connection, [top_up.customer_id])
        before = find_top_up(connection, top_up.customer_id)
        put_top_up(connection, top_up)
        log_action(
            connection,
            by=by,
            now=now,
            kind="top-up",
            action="set",
            subject=top_up.customer_id,
            before=None if before is None else _state(before),
            after=_state(top_up),
        )
    return top_up


def buy_top_ups(*, engine: Engine, now: datetime) -> int:
    """Make a grant for each customer that is low now; returns how many.

    A customer with an unpaid top-up gets no other one, and none gets more than its top-up allows in 24 hours.
    Several processes may run this at once.
    """
    bought, after = 0, ""
    while True:
        with transaction(engine) as connection:
            low = low_customers(connection, now=now, after=after, limit=_BATCH)
        for customer_id in low:
            bought += _buy(engine, customer_id, now) is not None
        if len(low) < _BATCH:
            return bought
        after = low[-1]


def _buy(engine: Engine, customer_id: str, now: datetime) -> Grant | None:
    with transaction(engine) as connection:
        take_money(connection, [customer_id])
        top_up = find_top_up(connection, customer_id)
        if top_up is None:
            return None
        balance = balances_of(connection, [customer_id], at=now)[customer_id]
        bought = bought_top_ups(connection, customer_id, now=now)
        if not is_due(top_up, balance=balance, unpaid=bought.unpaid, bought=bought.in_a_day):
            return None
        return put_grant(connection, terms_of(top_up), by="top-up", now=now, is_top_up=True)


def _state(top_up: TopUp) -> dict[str, object]:
    return {
        "when_below_usd_cents": cents_text(top_up.when_below_usd_cents),
        "buy_usd_cents": cents_text(top_up.buy_usd_cents),
        "at_most_a_day": top_up.at_most_a_day,
    }
