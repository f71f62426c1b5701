"""Release a hold: the gateway sent nothing upstream, and gives the money back at once."""

from datetime import datetime

from sqlalchemy import Engine

from metering.budgets.accounts import open_accounts
from metering.budgets.holds import HoldState
from metering.budgets.queries.streams import has_stream
from metering.budgets.store.holds import ClosedHold, close_holds, read_holds
from metering.budgets.store.locks import share_and_lock
from metering.core.errors import MeteringError
from metering.db.engine import transaction


class UnknownHoldError(MeteringError):
    """The stream has no hold."""


class StreamStartedError(MeteringError):
    """The stream has events, so its hold ends when its charge is booked."""


def release_hold(*, engine: Engine, customer_id: str, stream_id: str, now: datetime) -> None:
    """Release the hold of a stream that never began. A hold that was released before, or expired, stays as it is.

    Raises:
        UnknownHoldError: the stream has no hold.
        StreamStartedError: an event of the stream arrived.
    """
    with transaction(engine) as connection:
        share_and_lock(connection, {customer_id})
        hold = read_holds(connection, [(customer_id, stream_id)]).get((customer_id, stream_id))
        if hold is None:
            raise UnknownHoldError(f"stream {stream_id!r} of customer {customer_id!r} has no hold")
        if hold.state is HoldState.SETTLED or has_stream(connection, customer_id=customer_id, stream_id=stream_id):
            raise StreamStartedError(
                f"stream {stream_id!r} of customer {customer_id!r} has begun: post its stream-end, and the hold"
                " ends when the charge is booked"
            )
        if hold.state is not HoldState.OPEN:
            return
        accounts = open_accounts(connection, {customer_id}, now=now)
        accounts.give_back(hold)
        accounts.write(connection)
        released = ClosedHold(customer_id=customer_id, stream_id=stream_id, state=HoldState.RELEASED)
        close_holds(connection, [released], now=now)
