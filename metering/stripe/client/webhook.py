"""Webhooks from Stripe: the signature is checked over the bytes of the body as received."""

import re
from datetime import datetime

import stripe

from metering.core.errors import MeteringError
from metering.stripe.client.records import parse_event
from metering.stripe.snapshot import StripeEvent

_SIGNED_AT = re.compile(r"(?:^|,)\s*t=(\d{1,20})")
_TOLERANCE_SECONDS = 300


class InvalidWebhookError(MeteringError):
    """The body is not signed with our secret, is too old or from the future, or is not an event."""


def parse_webhook(*, body: bytes, signature: str | None, secret: str, now: datetime) -> StripeEvent:
    """The event in a webhook's body.

    Raises:
        InvalidWebhookError: the signature does not match, is too old, from the future or missing, or the body is
            not an event.
    """
    # The library refuses old signatures only; one from the future would stay valid until then.
    signed_at = _SIGNED_AT.search(signature or "")
    if signed_at is not None and int(signed_at[1]) > now.timestamp() + _TOLERANCE_SECONDS:
        raise InvalidWebhookError("Stripe-Signature: it is dated in the future")
    try:
        event = stripe.Webhook.construct_event(body, signature, secret)
        return parse_event(event.to_dict())
    except stripe.SignatureVerificationError as error:
        raise InvalidWebhookError(
            "Stripe-Signature: it does not match this body and our secret, or is too old"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidWebhookError("the body is not a Stripe event") from error
