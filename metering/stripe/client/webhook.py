"""Webhooks from Stripe: the signature is checked over the bytes of the body as received."""

import stripe

from metering.core.errors import MeteringError
from metering.stripe.client.records import parse_event
from metering.stripe.snapshot import StripeEvent


class InvalidWebhookError(MeteringError):
    """The body is not signed with our secret, is too old, or is not an event."""


def parse_webhook(*, body: bytes, signature: str | None, secret: str) -> StripeEvent:
    """The event in a webhook's body.

    Raises:
        InvalidWebhookError: the signature does not match, is too old or is missing, or the body is not an event.
    """
    try:
        event = stripe.Webhook.construct_event(body, signature, secret)
        return parse_event(event.to_dict())
    except stripe.SignatureVerificationError as error:
        raise InvalidWebhookError(
            "Stripe-Signature: it does not match this body and our secret, or is too old"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidWebhookError("the body is not a Stripe event") from error
