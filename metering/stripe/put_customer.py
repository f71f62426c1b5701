"""Put a customer: create one, or set its name, time zone or Stripe id."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.customers.check_time_zone import check_time_zone
from metering.customers.store import CustomerDetails, lock_details
from metering.customers.store import put_customer as store_customer
from metering.db.engine import transaction
from metering.stripe.store.pushes import wake_linked


def put_customer(
    *, engine: Engine, customer_id: str, details: CustomerDetails, now: datetime, by: Author = "metering"
) -> None:
    """Create or change a customer; fields that are None in `details` stay as they are.

    With a Stripe id, the customer's unlinked and stuck invoices become due for a push.

    Raises:
        UnknownTimeZoneError: the zone is not an IANA name, or PostgreSQL does not agree about it.
        StripeCustomerTakenError: another customer has this Stripe id.
    """
    with transaction(engine) as connection:
        if details.time_zone is not None:
            check_time_zone(connection, time_zone=details.time_zone)
        before = lock_details(connection, customer_id=customer_id)
        store_customer(connection, customer_id=customer_id, details=details, now=now)
        if details.stripe_customer_id is not None:
            wake_linked(connection, customer_id=customer_id, now=now)
        after = lock_details(connection, customer_id=customer_id)
        if after != before:
            log_action(
                connection,
                by=by,
                now=now,
                kind="customer",
                action="create" if before is None else "change",
                subject=customer_id,
                before=asdict(before) if before else None,
                after=asdict(after) if after else None,
            )
