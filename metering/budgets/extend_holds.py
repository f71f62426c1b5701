"""Extend holds: sliding holds follow what their streams have delivered, or say that a stream has to end."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from metering.budgets.accounts import open_accounts
from metering.budgets.admission import BudgetExhaustedError, admit
from metering.budgets.hold_price import PriceUnknownError, price_hold
from metering.budgets.holds import Hold, HoldMode, HoldState, StreamKey
from metering.budgets.store.holds import ExtendedHold, extend_holds, read_holds
from metering.core.money import EXACT
from metering.prices.price_book import PriceBook


def extend_delivering(
    connection: Connection, delivered: Mapping[StreamKey, int], *, prices: PriceBook, now: datetime
) -> list[StreamKey]:
    """Extend the holds of streams that have delivered so many output tokens; return the streams that have to end.

    Once a stream has to end, that is the answer until it has. The customers are locked (`store.locks`).
    """
    holds = {
        key: hold
        for key, hold in read_holds(connection, delivered).items()
        if hold.state is HoldState.OPEN and hold.request.mode is HoldMode.SLIDING
    }
    stopped = [key for key, hold in holds.items() if hold.is_stopped]
    short = {
        key: covers
        for key, hold in holds.items()
        if not hold.is_stopped
        and (covers := hold.request.covered_after(delivered[key], covered=hold.covers_output_tokens))
        > hold.covers_output_tokens
    }
    if not short:
        return stopped
    accounts = open_accounts(connection, {customer_id for customer_id, _ in short}, now=now)
    extended: list[ExtendedHold] = []
    for key, covers in short.items():
        hold = holds[key]
        more = _more(hold, covers, prices)
        if more is None:
            continue
        try:
            admit(accounts.named(hold.budget_ids), amount=more, price=None)
        except BudgetExhaustedError:
            stopped.append(key)
            extended.append(
                _changed(hold, held=hold.held_usd_cents, covers=hold.covers_output_tokens, stopped=True)
            )
        else:
            held = EXACT.add(hold.held_usd_cents, more)
            extended.append(_changed(hold, held=held, covers=covers, stopped=False))
    accounts.write(connection)
    extend_holds(connection, extended)
    return stopped


def _more(hold: Hold, covers: int, prices: PriceBook) -> Decimal | None:
    """What the longer hold needs on top, by the prices when it was made; None for a model without a price."""
    try:
        price = price_hold(hold.request, prices=prices, at=hold.made_at)
    except PriceUnknownError:
        return None
    return EXACT.subtract(price.amount(covers), hold.held_usd_cents)


def _changed(hold: Hold, *, held: Decimal, covers: int, stopped: bool) -> ExtendedHold:
    return ExtendedHold(
        customer_id=hold.request.customer_id,
        stream_id=hold.request.stream_id,
        held_usd_cents=held,
        covers_output_tokens=covers,
        is_stopped=stopped,
    )
