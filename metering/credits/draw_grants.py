"""Draw grants: pay for what a transaction books, and give back what it takes back."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from metering.core.time_zones import UTC_ZONE
from metering.credits.booking import Booking, BookingKind
from metering.credits.drawing import Drawing, Paid, paid_after
from metering.credits.grant import Grant
from metering.credits.store.grants import (
    add_entries,
    costs_of,
    draws_of,
    grants_with_balance,
    read_grants,
    zones_of,
)
from metering.db.rows import json_keys


def draw_grants(connection: Connection, bookings: Sequence[Booking], *, now: datetime) -> None:
    """Post the bookings of a transaction to the grants of their customers, in their order.

    `now` is the time of booking: what has expired by then pays for nothing. Call it with the customers' money
    locked, before anything else reads their balances.
    """
    customer_ids = sorted({booking.customer_id for booking in bookings})
    paid = _paid(connection, bookings)
    grants = {each.grant_id: each for each in grants_with_balance(connection, customer_ids)}
    missing = {each.grant_id for of_stream in paid.values() for each in of_stream} - set(grants)
    if missing:
        grants |= {each.grant_id: each for each in read_grants(connection, customer_ids, missing)}
    if not grants:
        return
    drawings = _drawings(connection, customer_ids, grants.values(), paid, _costs(connection, bookings))
    for booking in bookings:
        drawing = drawings.get(booking.customer_id)
        if drawing is not None:
            drawing.post(booking, now=now)
    entries = [entry for drawing in drawings.values() for entry in drawing.entries]
    touched = {entry.grant_id for entry in entries}
    changed = [
        grant for drawing in drawings.values() for grant in drawing.grants.values() if grant.grant_id in touched
    ]
    add_entries(connection, changed, entries)


def _paid(connection: Connection, bookings: Sequence[Booking]) -> Mapping[tuple[str, str], Sequence[Paid]]:
    """What grants have paid for the streams of which something is taken back."""
    streams = {
        (booking.customer_id, booking.stream_id)
        for booking in bookings
        if booking.usd_cents < 0 and booking.stream_id is not None
    }
    if not streams:
        return {}
    draws: dict[tuple[str, str], list[Paid]] = {}
    for each in draws_of(connection, json_keys(streams)):
        draws.setdefault((each.customer_id, each.stream_id), []).append(Paid(each.grant_id, each.usd_cents))
    return {key: paid_after(each) for key, each in draws.items()}


def _costs(connection: Connection, bookings: Sequence[Booking]) -> Mapping[tuple[str, str], Decimal]:
    """The costs of the streams that an adjustment raises: credits may have brought their sum below zero before."""
    streams = {
        (booking.customer_id, booking.stream_id)
        for booking in bookings
        if booking.usd_cents > 0 and booking.stream_id is not None and booking.kind is not BookingKind.CHARGE
    }
    return costs_of(connection, json_keys(streams)) if streams else {}


def _drawings(
    connection: Connection,
    customer_ids: Collection[str],
    grants: Iterable[Grant],
    paid: Mapping[tuple[str, str], Sequence[Paid]],
    costs: Mapping[tuple[str, str], Decimal],
) -> dict[str, Drawing]:
    by_customer: dict[str, list[Grant]] = {}
    for each in grants:
        by_customer.setdefault(each.customer_id, []).append(each)
    zones = zones_of(connection, by_customer)
    return {
        customer_id: Drawing.of(
            by_customer[customer_id],
            paid={stream_id: each for (whose, stream_id), each in paid.items() if whose == customer_id},
            costs={stream_id: each for (whose, stream_id), each in costs.items() if whose == customer_id},
            time_zone=zones.get(customer_id, UTC_ZONE),
        )
        for customer_id in customer_ids
        if customer_id in by_customer
    }
