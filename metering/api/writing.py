"""The calls of an admin that change something."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from metering.api.auth import Admin
from metering.api.errors import NotFoundError
from metering.api.fields import Id, Reason
from metering.api.reading import TheService
from metering.api.shapes import CustomerInput, customer_shape, manual_adjustment_shape
from metering.core.clock import utc_now
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.queries import get_customer
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.ledger.entries import ManualKind
from metering.stripe.put_customer import put_customer

router = APIRouter(prefix="/v1", tags=["administration"])


class AdjustmentInput(BaseModel):
    """A credit (below 0) or a correction, in exact cents as a string, for a customer or one of its streams."""

    customer_id: Id
    stream_id: Id | None = None
    kind: ManualKind = ManualKind.CREDIT
    usd_cents: Annotated[Decimal, Field(max_digits=30, decimal_places=12, allow_inf_nan=False, strict=False)]
    reason: Reason


@router.post("/adjustments")
def write_adjustment(
    given: AdjustmentInput,
    idempotency_key: Annotated[
        str,
        Header(min_length=1, max_length=255, description="Makes asking twice harmless: the answer is the same."),
    ],
    key: Admin,
    service: TheService,
) -> dict[str, Any]:
    """Book a credit or a correction, exactly once for a key."""
    adjustment = adjust_manually(
        engine=service.engine,
        idempotency_key=idempotency_key,
        customer_id=given.customer_id,
        stream_id=given.stream_id,
        kind=given.kind,
        usd_cents=given.usd_cents,
        reason=given.reason,
        booked_by=f"key {key.key_id}",
        now=utc_now(),
    )
    return manual_adjustment_shape(adjustment)


@router.put("/customers/{customer_id:path}")
def write_customer(
    customer_id: Id,
    given: CustomerInput,
    _: Admin,
    service: TheService,
) -> dict[str, Any]:
    """Create a customer, or set its name, time zone or Stripe id."""
    now = utc_now()
    details = CustomerDetails(
        name=given.name, stripe_customer_id=given.stripe_customer_id, time_zone=given.time_zone
    )
    put_customer(engine=service.engine, customer_id=customer_id, details=details, now=now)
    with transaction(service.engine) as connection:
        customer = get_customer(connection, customer_id=customer_id, now=now)
    if customer is None:
        raise NotFoundError(f"there is no customer {customer_id!r}")
    return customer_shape(customer)
