"""Take a Stripe event: store it, and make the push of its invoice due. An event is only a hint to read Stripe."""

from datetime import datetime

from sqlalchemy import Engine

from metering.db.engine import transaction
from metering.stripe.snapshot import StripeEvent
from metering.stripe.store.grant_invoices import wake_grant_invoice
from metering.stripe.store.pushes import add_stripe_event, wake_pushes_of


def take_stripe_event(*, engine: Engine, event: StripeEvent, now: datetime) -> bool:
    """Store an event and wake its push. Return whether it was new; a repeated event changes nothing."""
    with transaction(engine) as connection:
        if not add_stripe_event(connection, event, now=now):
            return False
        if event.stripe_object_id is not None:
            wake_pushes_of(connection, stripe_invoice_id=event.stripe_object_id, now=now)
            wake_grant_invoice(connection, stripe_invoice_id=event.stripe_object_id, now=now)
        return True
