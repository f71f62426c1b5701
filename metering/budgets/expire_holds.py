"""Expire holds: give back what was held for streams of which no event ever came.

A stream with events keeps its hold until its charge is booked, however long that takes: whoever swept it earlier
would lose track of a charge that is still to come.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from metering.budgets.accounts import open_accounts
from metering.budgets.holds import Hold, HoldState, StreamKey
from metering.budgets.queries.streams import EndedLease, ended_leases
from metering.budgets.store.holds import ClosedHold, close_holds, read_holds, renew_holds
from metering.budgets.store.locks import share_and_lock
from metering.db.engine import transaction

# Holds looked at in one transaction.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class ExpiredHolds:
    """What one run did: holds that expired, and holds that live on with their streams."""

    expired: int
    renewed: int


def expire_holds(*, engine: Engine, now: datetime) -> ExpiredHolds:
    """Look at every open hold whose lease has ended."""
    expired = renewed = 0
    while True:
        with transaction(engine) as connection:
            ended = ended_leases(connection, now=now, limit=_BATCH)
            if not ended:
                return ExpiredHolds(expired, renewed)
            share_and_lock(connection, {each.customer_id for each in ended})
            given_back = _look_at(connection, _again(connection, ended, now), now)
        expired += given_back
        renewed += len(ended) - given_back


def expire_holds_of(connection: Connection, customer_ids: Collection[str], *, now: datetime) -> int:
    """Expire the holds of these customers, which are locked; return how many expired."""
    return _look_at(connection, ended_leases(connection, now=now, limit=_BATCH, customer_ids=customer_ids), now)


def _again(connection: Connection, ended: Sequence[EndedLease], now: datetime) -> Sequence[EndedLease]:
    """The same leases as they are under the locks: a stream may have begun, or its charge been booked."""
    keys = {(each.customer_id, each.stream_id) for each in ended}
    found = ended_leases(connection, now=now, limit=_BATCH, customer_ids={key[0] for key in keys})
    return [each for each in found if (each.customer_id, each.stream_id) in keys]


def _look_at(connection: Connection, ended: Sequence[EndedLease], now: datetime) -> int:
    if not ended:
        return 0
    holds = read_holds(connection, [(each.customer_id, each.stream_id) for each in ended])
    accounts = open_accounts(connection, {each.customer_id for each in ended}, now=now)
    closed: list[ClosedHold] = []
    renewed: list[tuple[StreamKey, datetime]] = []
    expired = 0
    for each in ended:
        hold = holds[each.customer_id, each.stream_id]
        if each.has_stream and each.booked_usd_cents is None:
            renewed.append((hold.request.key, _renewal(hold, each, now)))
            continue
        expired += not each.has_stream
        accounts.give_back(hold)
        closed.append(
            ClosedHold(
                customer_id=each.customer_id,
                stream_id=each.stream_id,
                state=HoldState.SETTLED if each.has_stream else HoldState.EXPIRED,
                settled_usd_cents=each.booked_usd_cents,
            )
        )
    accounts.write(connection)
    close_holds(connection, closed, now=now)
    renew_holds(connection, renewed)
    return expired


def _renewal(hold: Hold, lease: EndedLease, now: datetime) -> datetime:
    """When to look again: a lease after the last event, but not at once for a stream that waits to be settled."""
    length = timedelta(seconds=hold.request.lease_seconds)
    return max(lease.last_received_at + length if lease.last_received_at else now, now + length)
