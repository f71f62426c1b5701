"""The calls of an admin that change something."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from metering.api.auth import Admin
from metering.api.errors import NotFoundError
from metering.api.reading import TheService
from metering.api.shapes import CustomerInput, customer_shape
from metering.clock import utc_now
from metering.operations.put_customer import put_customer
from metering.store.customers import CustomerDetails
from metering.store.engine import transaction
from metering.totals.customers import get_customer

router = APIRouter(prefix="/v1", tags=["administration"])


@router.put("/customers/{customer_id:path}")
def write_customer(
    customer_id: Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[^\x00]+$")],
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
