"""Webhooks: what Stripe posts is believed only with its signature, over the bytes as they came."""

import stripe

from metering.core.errors import MeteringError
from metering.stripe.client.records import parse_event
from metering.stripe.snapshot import StripeEvent


class InvalidWebhookError(MeteringError):
    """Not signed with our secret, too old, or no event."""


def parse_webhook(*, body: bytes, signature: str | None, secret: str) -> StripeEvent:
    """The event in a webhook's body.

    Raises:
        InvalidWebhookError: nothing of it may be believed.
    """
    try:
        event = stripe.Webhook.construct_event(body, signature, secret)
        return parse_event(event.to_dict())
    except stripe.SignatureVerificationError as error:
        raise InvalidWebhookError("Stripe-Signature: it is not of this body and our secret, or too old") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidWebhookError("the body is no Stripe event") from error
