"""`GET /v1/customers` and `PUT /v1/customers/{customer_id}`: who pays."""

from typing import Annotated

from fastapi import Path
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import Cents, CustomerId, Time, TimeZone, described, time_text
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import Db, Id, Input, TheService
from metering.api.problems import NotFoundError
from metering.api.routes import raises, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, decode_cursor
from metering.core.money import cents_text
from metering.customers.check_time_zone import UnknownTimeZoneError
from metering.customers.queries.customers import CustomerView, get_customer, list_customers
from metering.customers.store import CustomerDetails, InvalidCustomerIdError, StripeCustomerTakenError
from metering.db.engine import transaction
from metering.stripe.put_customer import put_customer

router = v1_router("customers")


class MonthToDate(TypedDict):
    """Final amounts of the current billing month, filed by the time the stream ended.

    Late usage and corrections of earlier months count for those, also when they are on a later invoice.
    """

    cost_usd_cents: Annotated[Cents, described("The exact final amount of the month so far.", example="1284.4985")]


class Customer(TypedDict):
    """A customer. The first event with its id creates it; a PUT names it and links it to Stripe."""

    customer_id: CustomerId
    name: Annotated[str | None, described("The customer's name, for people.", example="Acme GmbH")]
    stripe_customer_id: Annotated[
        str | None, described("The Stripe customer that its invoices go to; null: not linked.", example="cus_Qx1")
    ]
    time_zone: TimeZone
    created_at: Annotated[Time, described("When the customer was created.")]
    month_to_date: MonthToDate
    similar_customer_ids: Annotated[
        list[str],
        described("Other customers whose ids differ only in case, Unicode form or spaces.", example=["Acme"]),
    ]


class CustomerInput(Input):
    """What can be set of a customer; fields that are left out stay as they are."""

    name: Annotated[
        str | None, Field(max_length=256, description="The customer's name, for people.", examples=["Acme GmbH"])
    ] = None
    stripe_customer_id: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="The Stripe customer to invoice.", examples=["cus_Qx1"]),
    ] = None
    time_zone: Annotated[
        str | None,
        Field(
            description="An IANA time zone, written as there; it decides where months begin.",
            examples=["Europe/Berlin"],
        ),
    ] = None


def customer_shape(customer: CustomerView) -> Customer:
    """A customer with the final amounts of the month so far."""
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "stripe_customer_id": customer.stripe_customer_id,
        "time_zone": customer.time_zone,
        "created_at": time_text(customer.created_at),
        "month_to_date": {"cost_usd_cents": cents_text(customer.month_to_date_usd_cents)},
        "similar_customer_ids": list(customer.similar_ids),
    }


@router.get("/customers", operation_id="listCustomers", summary="List customers")
@needs(Scope.CUSTOMERS_READ)
def read_customers(
    key: Caller,
    connection: Db,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TEXT)] = None,
) -> Page[Customer]:
    """Customers by id, with their final amounts of the month so far."""
    position = decode_cursor(cursor, length=1)
    customers = list_customers(
        connection,
        now=utc_now(),
        only=key.customer_id,
        after=position[0] if position else "",
        limit=limit + 1,
    )
    return page_of(customers, limit=limit, shape=customer_shape, position=lambda customer: [customer.customer_id])


@router.get("/customers/{customer_id:id}", operation_id="getCustomer", summary="Get a customer")
@needs(Scope.CUSTOMERS_READ)
@raises(NotFoundError)
def read_customer(
    customer_id: Annotated[Id, Path(description="The customer.", examples=["acme"])], key: Caller, connection: Db
) -> Customer:
    """A customer, with its final amounts of the month so far."""
    require_customer(key, customer_id)
    is_bound = key.customer_id is not None
    customer = get_customer(connection, customer_id=customer_id, now=utc_now(), with_similar=not is_bound)
    if customer is None:
        raise NotFoundError(f"there is no customer {customer_id!r}")
    return customer_shape(customer)


@router.put("/customers/{customer_id:id}", operation_id="putCustomer", summary="Create or change a customer")
@needs(Scope.CUSTOMERS_WRITE)
@raises(NotFoundError, InvalidCustomerIdError, StripeCustomerTakenError, UnknownTimeZoneError)
def write_customer(
    customer_id: Annotated[Id, Path(description="The customer to create or change.", examples=["acme"])],
    given: CustomerInput,
    by: By,
    service: TheService,
) -> Customer:
    """Create a customer, or set its name, time zone or Stripe id. Repeating the request changes nothing."""
    now = utc_now()
    details = CustomerDetails(
        name=given.name, stripe_customer_id=given.stripe_customer_id, time_zone=given.time_zone
    )
    put_customer(engine=service.engine, customer_id=customer_id, details=details, by=by, now=now)
    with transaction(service.engine) as connection:
        customer = get_customer(connection, customer_id=customer_id, now=now, with_similar=True)
    if customer is None:
        raise NotFoundError(f"there is no customer {customer_id!r}")
    return customer_shape(customer)
