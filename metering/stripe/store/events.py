"""Events that Stripe told of, once each."""

from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from metering.db.tables import stripe_events
from metering.stripe.snapshot import StripeEvent


def add_stripe_event(connection: Connection, event: StripeEvent, *, now: datetime) -> bool:
    """Keep an event; whether it was new."""
    statement = (
        insert(stripe_events)
        .values(
            stripe_event_id=event.stripe_event_id,
            type=event.type,
            stripe_object_id=event.stripe_object_id,
            created_at=event.created_at,
            received_at=now,
        )
        .on_conflict_do_nothing()
        .returning(stripe_events.c.stripe_event_id)
    )
    return connection.execute(statement).first() is not None
