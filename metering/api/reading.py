"""The calls that read: streams, charges, customers."""

from collections.abc import Iterator
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import Connection

from metering.api.auth import Reader, require_customer
from metering.api.errors import InvalidParameterError, NotFoundError
from metering.api.paging import Cursor, Limit, page_of
from metering.api.shapes import (
    Page,
    charge_shape,
    customer_shape,
    manual_adjustment_shape,
    stream_shape,
)
from metering.api.stream_paths import stream_key, text_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor, moment_in
from metering.core.period import BillingPeriod
from metering.customers.queries import list_customers
from metering.db.engine import transaction
from metering.events.events import Outcome, UsageSource
from metering.ledger.entries import Charge
from metering.ledger.queries.charges import ChargeFilter, list_charges, list_manual_adjustments
from metering.ledger.queries.streams import get_stream
from metering.server.bootstrap import Service
from metering.streams.accrue_streams import accrue_stream

router = APIRouter(prefix="/v1", tags=["reading"])


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _connection(request: Request) -> Iterator[Connection]:
    with transaction(_service(request).engine) as connection:
        yield connection


Db = Annotated[Connection, Depends(_connection)]
TheService = Annotated[Service, Depends(_service)]
When = Annotated[datetime | None, Query(description="RFC 3339 with offset")]


@router.get("/streams/{customer_id}/{stream_id:path}")
def read_stream(
    stream: Annotated[tuple[str, str], Depends(stream_key)], key: Reader, connection: Db, service: TheService
) -> dict[str, Any]:
    """One stream: its state, usage, cost once final, accrued estimate before."""
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    view = get_stream(connection, customer_id=customer_id, stream_id=stream_id)
    if view is None:
        raise NotFoundError(f"customer {customer_id!r} has no stream {stream_id!r}")
    return stream_shape(view, accrue_stream(connection, stream=view.stream, price_books=service.price_books))


@router.get("/charges")
def read_charges(
    key: Reader,
    connection: Db,
    customer_id: str | None = None,
    from_: Annotated[When, Query(alias="from")] = None,
    to: When = None,
    model: str | None = None,
    outcome: Outcome | None = None,
    api_key_id: str | None = None,
    usage_source: UsageSource | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """Booked usage charges, by the end of their stream, oldest first."""
    where = ChargeFilter(
        customer_id=require_customer(key, text_of(customer_id)),
        from_=aware("from", from_),
        to=aware("to", to),
        model=text_of(model),
        outcome=outcome,
        api_key_id=text_of(api_key_id),
        usage_source=usage_source,
    )
    position = decode_cursor(cursor, length=3)
    after = (moment_in(position[0]), position[1], position[2]) if position else None
    charges = list_charges(connection, where=where, after=after, limit=limit + 1)
    return page_of(charges, limit=limit, shape=charge_shape, position=_charge_position)


@router.get("/adjustments")
def read_adjustments(
    key: Reader,
    connection: Db,
    customer_id: str | None = None,
    period: Annotated[str | None, Query(description="The month that they count for, such as 2026-10")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """Credits and corrections that were booked by hand, newest first; a stream shows its own, too."""
    position = decode_cursor(cursor, length=2)
    adjustments = list_manual_adjustments(
        connection,
        customer_id=require_customer(key, text_of(customer_id)),
        period=str(BillingPeriod.parse(period)) if period is not None else None,
        after=(moment_in(position[0]), position[1]) if position else None,
        limit=limit + 1,
    )
    return page_of(
        adjustments,
        limit=limit,
        shape=manual_adjustment_shape,
        position=lambda each: [each.booked_at.isoformat(), each.adjustment_id],
    )


def _charge_position(charge: Charge) -> list[str]:
    return [charge.bill.ended_at.isoformat(), charge.customer_id, charge.stream_id]


@router.get("/customers")
def read_customers(key: Reader, connection: Db, limit: Limit = 100, cursor: Cursor = None) -> Page:
    """Customers with their final amounts of the month so far."""
    position = decode_cursor(cursor, length=1)
    customers = list_customers(
        connection,
        now=utc_now(),
        only=key.customer_id,
        after=position[0] if position else "",
        limit=limit + 1,
    )
    return page_of(customers, limit=limit, shape=customer_shape, position=lambda customer: [customer.customer_id])


def aware(name: str, moment: datetime | None) -> datetime | None:
    """A moment of a query in UTC.

    Raises:
        InvalidParameterError: it has no offset, or is at an end of the calendar.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidParameterError(f"{name}: needs an offset, such as {moment.isoformat()}Z")
    if not MINYEAR < moment.year < MAXYEAR:  # at the ends of the calendar there is no month before or after
        raise InvalidParameterError(f"{name}: needs a year from {MINYEAR + 1} to {MAXYEAR - 1}")
    return moment.astimezone(UTC)
