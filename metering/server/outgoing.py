"""The part of the composition root for webhook endpoints and for the close of months."""

from metering.alerts.send_webhooks import WebhookSender
from metering.alerts.transport import WebhookTransport
from metering.core.clock import utc_now
from metering.months.close_months import CloseTerms
from metering.server.bootstrap import Service
from metering.server.settings import Settings
from metering.stripe.store.pushes import add_pushes

# The key for the local Stripe stand-in, which accepts any key of the right form.
LOCAL_STRIPE_KEY = "sk_test_local"


def build_webhook_sender(service: Service) -> WebhookSender:
    """The webhook sender."""
    settings = service.settings
    return WebhookSender(
        engine=service.engine,
        transport=WebhookTransport(
            allow_private=settings.webhooks_allow_private, timeout=settings.webhooks_timeout
        ),
        clock=utc_now,
        disable_after=settings.webhooks_disable_after,
    )


def close_terms(settings: Settings) -> CloseTerms:
    """The terms by which months are closed."""
    return CloseTerms(
        grace=settings.close_grace, minimum_cents=settings.invoice_minimum_cents, hand_over=add_pushes
    )
