"""Manual adjustments: credits and corrections that an admin books."""

from typing import Annotated

from fastapi import Header
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.api.answers import (
    BookedBy,
    Cents,
    CustomerId,
    Month,
    Time,
    described,
    time_text,
)
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import (
    CentsInput,
    CustomerFilter,
    Db,
    Id,
    Input,
    MonthFilter,
    Reason,
    TheService,
    month_text,
)
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, TIME, decode_cursor, parse_time, time_part
from metering.core.money import cents_text
from metering.corrections.adjust_manually import InvalidAdjustmentError, adjust_manually
from metering.customers.store import UnknownCustomerError
from metering.ledger.entries import ManualAdjustment as BookedAdjustment
from metering.ledger.entries import ManualKind
from metering.ledger.queries.charges import list_manual_adjustments
from metering.ledger.store.open_periods import UnusableTimeZoneError

router = v1_router("corrections")


class ManualAdjustment(TypedDict):
    """A credit or a correction that an admin booked."""

    adjustment_id: Annotated[str, described("The id of the adjustment.", example="adj_5d4c0a9b")]
    customer_id: CustomerId
    stream_id: Annotated[str | None, described("The stream that it is for; null: for the customer as a whole.")]
    booked_at: Annotated[Time, described("When it was booked.")]
    booked_by: BookedBy
    period: Annotated[Month, described("The billing month that it counts for.")]
    kind: Annotated[ManualKind, described("A credit is below 0; a correction may have either sign.")]
    reason: Annotated[ManualKind, described("The same as `kind`, for clients that know it by this name.")]
    note: Annotated[str, described("The `reason` of the request.", example="Outage on 2026-11-20")]
    usd_cents: Annotated[Cents, described("The exact amount; below 0 in the customer's favour.", example="-500")]


class AdjustmentInput(Input):
    """A credit or a correction, for a customer or one of its streams."""

    customer_id: Annotated[Id, Field(description="The customer.", examples=["acme"])]
    stream_id: Annotated[
        Id | None, Field(description="The stream that it is for; without it, the customer as a whole.")
    ] = None
    kind: Annotated[
        ManualKind, Field(description="A credit must be below 0; a correction may have either sign.")
    ] = ManualKind.CREDIT
    usd_cents: Annotated[CentsInput, Field(description="The exact amount in cents, as a string; not 0.")]
    reason: Reason


def manual_adjustment_shape(adjustment: BookedAdjustment) -> ManualAdjustment:
    """A credit or a correction that an admin booked."""
    return {
        "adjustment_id": adjustment.adjustment_id,
        "customer_id": adjustment.customer_id,
        "stream_id": adjustment.stream_id,
        "booked_at": time_text(adjustment.booked_at),
        "booked_by": adjustment.booked_by,
        "period": adjustment.period,
        "kind": adjustment.kind,
        "reason": adjustment.kind,
        "note": adjustment.reason,
        "usd_cents": cents_text(adjustment.usd_cents),
    }


@router.get("/adjustments", operation_id="listAdjustments", summary="List manual adjustments")
@needs(Scope.CORRECTIONS_READ)
def read_adjustments(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    period: MonthFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT)] = None,
) -> Page[ManualAdjustment]:
    """Manual credits and corrections, newest first. `period` is the month that they count for."""
    position = decode_cursor(cursor, length=2)
    adjustments = list_manual_adjustments(
        connection,
        customer_id=require_customer(key, customer_id),
        period=month_text(period),
        after=(parse_time(position[0]), position[1]) if position else None,
        limit=limit + 1,
    )
    return page_of(
        adjustments,
        limit=limit,
        shape=manual_adjustment_shape,
        position=lambda each: [time_part(each.booked_at), each.adjustment_id],
    )


@router.post("/adjustments", operation_id="createAdjustment", summary="Book a credit or a correction")
@needs(Scope.CORRECTIONS_WRITE)
@raises(
    UnknownCustomerError,
    UnusableTimeZoneError,
    InvalidAdjustmentError,
    IdempotencyKeyReusedError,
    RequestInFlightError,
)
def write_adjustment(
    given: AdjustmentInput,
    idempotency_key: Annotated[
        str,
        Header(
            min_length=1,
            max_length=255,
            description="Any text that is unique to this adjustment. Repeating the request with it books nothing "
            "and gets the same answer.",
            examples=["outage-2026-11-20-acme"],
        ),
    ],
    by: By,
    service: TheService,
) -> ManualAdjustment:
    """Book a credit or a correction, exactly once for each `Idempotency-Key`."""
    adjustment = adjust_manually(
        engine=service.engine,
        idempotency_key=idempotency_key,
        customer_id=given.customer_id,
        stream_id=given.stream_id,
        kind=given.kind,
        usd_cents=given.usd_cents,
        reason=given.reason,
        booked_by=by,
        now=utc_now(),
    )
    return manual_adjustment_shape(adjustment)
