"""The calls of an admin that change something: customers and rates."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, Field

from metering.api.auth import Admin
from metering.api.errors import NotFoundError
from metering.api.reading import TheService
from metering.api.shapes import CustomerInput, customer_shape, rate_card_shape
from metering.clock import utc_now
from metering.domain.rates import Rate
from metering.domain.usage import UsageKind
from metering.operations.put_customer import put_customer
from metering.operations.set_rate import set_rate
from metering.store.customers import CustomerDetails
from metering.store.engine import transaction
from metering.totals.customers import get_customer

router = APIRouter(prefix="/v1", tags=["administration"])

NoNul = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00]+$")]


class RateInput(BaseModel):
    """USD per million units of a kind, as a string; for requests above an input size if given."""

    kind: UsageKind
    usd_per_million: Annotated[
        Decimal, Field(ge=0, max_digits=20, decimal_places=12, allow_inf_nan=False, strict=False)
    ]
    above_input_tokens: Annotated[int, Field(ge=0)] = 0


class RateCardInput(BaseModel):
    """A new card for a model. It takes effect now unless a time is given."""

    rates: Annotated[list[RateInput], Field(min_length=1, max_length=100)]
    effective_from: AwareDatetime | None = None


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


@router.put("/rates/{provider}/{model:path}")
def write_rate(
    provider: NoNul, model: NoNul, given: RateCardInput, key: Admin, service: TheService
) -> dict[str, Any]:
    """Add a dated rate card. What is booked stays as it is; unpriced streams that it prices finalize."""
    now = utc_now()
    effective_from: datetime = (given.effective_from or now).astimezone(UTC)
    provenance = f"key {key.key_id}"
    card = set_rate(
        engine=service.engine,
        provider=provider,
        model=model,
        effective_from=effective_from,
        rates=[
            Rate(
                kind=rate.kind,
                usd_per_million=rate.usd_per_million,
                above_input_tokens=rate.above_input_tokens,
            )
            for rate in given.rates
        ],
        set_by=provenance,
        now=now,
    )
    return rate_card_shape(card, f"set by {provenance}")
