"""SQL that writes customers. Ingest adds unknown ones; here they get a name, a time zone and a Stripe id."""

import re
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from metering.core.errors import MeteringError


class StripeCustomerTakenError(MeteringError):
    """Two customers cannot be billed as the same Stripe customer."""


class UnknownCustomerError(MeteringError):
    """No customer has this id."""


class InvalidCustomerIdError(MeteringError):
    """A new customer's id has control characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerDetails:
    """Details of a customer that can be set; None keeps a value."""

    name: str | None = None
    stripe_customer_id: str | None = None
    time_zone: str | None = None


# As for events (`events.wire.admission`); a customer that exists already keeps its id.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CUSTOMER = text("SELECT name, stripe_customer_id FROM customers WHERE customer_id = :customer_id")


def is_customer(connection: Connection, *, customer_id: str) -> bool:
    """Whether the customer exists."""
    return connection.execute(_CUSTOMER, {"customer_id": customer_id}).first() is not None


def require_customer(connection: Connection, *, customer_id: str) -> None:
    """Check that the customer exists.

    Raises:
        UnknownCustomerError: no customer has this id.
    """
    if not is_customer(connection, customer_id=customer_id):
        raise UnknownCustomerError(f"customer_id: there is no customer {customer_id!r}")


def name_of(connection: Connection, *, customer_id: str) -> str | None:
    """The name of an existing customer; None when it has none."""
    name: str | None = connection.execute(_CUSTOMER, {"customer_id": customer_id}).one().name
    return name


def stripe_customer_id_of(connection: Connection, *, customer_id: str) -> str | None:
    """The Stripe customer that an existing customer is linked to; None when it is not linked."""
    linked: str | None = connection.execute(_CUSTOMER, {"customer_id": customer_id}).one().stripe_customer_id
    return linked


_LOCK = text(
    "SELECT name, stripe_customer_id, time_zone FROM customers WHERE customer_id = :customer_id FOR UPDATE"
)


def lock_details(connection: Connection, *, customer_id: str) -> CustomerDetails | None:
    """A customer's details, which no other transaction changes until this one ends; None if it does not exist."""
    row = connection.execute(_LOCK, {"customer_id": customer_id}).first()
    return None if row is None else CustomerDetails(**row._mapping)


# Details that are not given keep their value; a new customer has the time zone UTC.
_PUT = text(
    """
    INSERT INTO customers AS c (customer_id, name, stripe_customer_id, time_zone, created_at)
    VALUES (:customer_id, :name, :stripe_customer_id, coalesce(CAST(:time_zone AS text), 'UTC'), :now)
    ON CONFLICT (customer_id) DO UPDATE SET name = coalesce(:name, c.name),
        stripe_customer_id = coalesce(:stripe_customer_id, c.stripe_customer_id),
        time_zone = coalesce(:time_zone, c.time_zone)
    WHERE coalesce(:name, :stripe_customer_id, :time_zone) IS NOT NULL
    """
)


def put_customer(connection: Connection, *, customer_id: str, details: CustomerDetails, now: datetime) -> None:
    """Create the customer, or set the details that are given.

    Raises:
        InvalidCustomerIdError: the customer does not exist, and its id has control characters.
        StripeCustomerTakenError: another customer has this Stripe id.
    """
    if _CONTROL.search(customer_id) and not is_customer(connection, customer_id=customer_id):
        raise InvalidCustomerIdError(
            f"customer_id: expected an id without control characters, got {customer_id!r}"
        )
    try:
        connection.execute(_PUT, {"customer_id": customer_id, "now": now, **asdict(details)})
    except IntegrityError as error:
        raise StripeCustomerTakenError(
            f"stripe_customer_id: {details.stripe_customer_id!r} belongs to another customer"
        ) from error


# Ingest runs this in psycopg: the time, and ids of customers that may be unknown. They are sorted, so that two
# writers that add the same customers cannot deadlock.
ADD_CUSTOMERS = """
INSERT INTO customers (customer_id, created_at)
SELECT customer_id, %s FROM unnest(%s::text[]) AS customer_id ORDER BY customer_id
ON CONFLICT DO NOTHING
"""
