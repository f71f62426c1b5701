"""Put a customer: create one, or set its name, time zone or Stripe id."""

from datetime import datetime
from zoneinfo import available_timezones

from sqlalchemy import Engine

from metering.core.errors import MeteringError
from metering.customers.store import CustomerDetails
from metering.customers.store import put_customer as store_customer
from metering.db.engine import transaction
from metering.stripe.store.pushes import wake_linked


class UnknownTimeZoneError(MeteringError):
    """The time zone is not in the IANA database."""


def put_customer(*, engine: Engine, customer_id: str, details: CustomerDetails, now: datetime) -> None:
    """Create or change a customer; fields that are None in `details` stay as they are.

    With a Stripe id, the customer's unlinked and stuck invoices become due for a push.

    Raises:
        UnknownTimeZoneError: the zone is not in the IANA database.
        StripeCustomerTakenError: another customer has this Stripe id.
    """
    if details.time_zone is not None and details.time_zone not in available_timezones():
        raise UnknownTimeZoneError(
            f"time_zone: {details.time_zone!r} is not an IANA time zone such as Europe/Berlin"
        )
    with transaction(engine) as connection:
        store_customer(connection, customer_id=customer_id, details=details, now=now)
        if details.stripe_customer_id is not None:
            wake_linked(connection, customer_id=customer_id, now=now)
