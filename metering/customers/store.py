"""Customers: who pays. Ingest adds unknown ones by itself; here they get a name, a zone and a Stripe id."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from metering.core.errors import MeteringError
from metering.db.tables import customers


class StripeCustomerTakenError(MeteringError):
    """Two customers cannot be billed as the same Stripe customer."""


class UnknownCustomerError(MeteringError):
    """There is no such customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerDetails:
    """What can be set of a customer; None leaves a value as it is."""

    name: str | None = None
    stripe_customer_id: str | None = None
    time_zone: str | None = None


def is_customer(connection: Connection, *, customer_id: str) -> bool:
    """Whether there is such a customer."""
    query = select(customers.c.customer_id).where(customers.c.customer_id == customer_id)
    return connection.execute(query).first() is not None


def require_customer(connection: Connection, *, customer_id: str) -> None:
    """Go on only if something is known of the customer.

    Raises:
        UnknownCustomerError: nothing is.
    """
    if not is_customer(connection, customer_id=customer_id):
        raise UnknownCustomerError(f"customer_id: there is no customer {customer_id!r}")


def name_of(connection: Connection, *, customer_id: str) -> str | None:
    """What the customer is called; None while it has only its id."""
    query = select(customers.c.name).where(customers.c.customer_id == customer_id)
    name: str | None = connection.execute(query).scalar_one()
    return name


def stripe_customer_id_of(connection: Connection, *, customer_id: str) -> str | None:
    """Which customer at Stripe it is linked to; None while it is not."""
    query = select(customers.c.stripe_customer_id).where(customers.c.customer_id == customer_id)
    linked: str | None = connection.execute(query).scalar_one()
    return linked


def put_customer(connection: Connection, *, customer_id: str, details: CustomerDetails, now: datetime) -> None:
    """Create the customer, or set what `details` has.

    Raises:
        StripeCustomerTakenError: another customer has this Stripe id.
    """
    given = {
        name: value
        for name in ("name", "stripe_customer_id", "time_zone")
        if (value := getattr(details, name)) is not None
    }
    statement = insert(customers).values(customer_id=customer_id, created_at=now, **given)
    statement = (
        statement.on_conflict_do_update(index_elements=["customer_id"], set_=given)
        if given
        else statement.on_conflict_do_nothing(index_elements=["customer_id"])
    )
    try:
        connection.execute(statement)
    except IntegrityError as error:
        raise StripeCustomerTakenError(
            f"stripe_customer_id: {details.stripe_customer_id!r} belongs to another customer"
        ) from error
