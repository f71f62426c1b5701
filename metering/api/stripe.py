"""`GET /v1/drift`: how Stripe differs, and `POST /v1/stripe/webhook`: what Stripe posts."""

from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import Time, described, optional_time, time_text
from metering.api.auth import Caller, needs, open_to_all, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import CustomerFilter, Db, MonthFilter, Text, TheService, month_text
from metering.api.problems import NotFoundError
from metering.api.routes import problem_responses, v1_router
from metering.core.clock import utc_now
from metering.core.cursors import NUMBER, TEXT, TIME, decode_cursor, parse_number, parse_time, time_part
from metering.db.engine import DatabaseUnavailableError
from metering.stripe.client.webhook import InvalidWebhookError, parse_webhook
from metering.stripe.drift import DriftClass, Remedy
from metering.stripe.queries.pushes import DriftView, list_drift
from metering.stripe.take_stripe_event import take_stripe_event

router = v1_router("stripe")
# Stripe's requests carry a signature instead of a key, and fields of Stripe's own.
webhook_router = APIRouter(prefix="/v1", tags=["stripe"])

# Stripe's events are smaller by far.
_MAX_WEBHOOK = 1024 * 1024


class Drift(TypedDict):
    """A difference between an invoice here and at Stripe, and what was done about it."""

    reconciliation_id: Annotated[str, described("The reconciliation that found it.", example="rec_5d4c0a9b")]
    finding: Annotated[int, described("Its number within the reconciliation.")]
    found_at: Annotated[Time, described("When it was found.")]
    customer_id: Annotated[str | None, described("The customer, where one is known.", example="acme")]
    invoice_id: Annotated[str | None, described("The invoice here; null where only Stripe has one.")]
    period: Annotated[str | None, described("The month of the invoice.", example="2026-11")]
    stripe_invoice_id: Annotated[str | None, described("The invoice at Stripe; null where it is missing.")]
    drift_class: Annotated[DriftClass, described("How Stripe differs.")]
    finalized: Annotated[bool, described("Whether Stripe's invoice was final.")]
    drift_cents: Annotated[int, described("What Stripe has too much; below 0: too little.", example=-12)]
    detail: Annotated[str, described("The difference in words.")]
    remedy: Annotated[Remedy, described("What a repair does; `report` is left to a person.")]
    repaired_at: Annotated[Time | None, described("When it was repaired; null: not repaired.")]
    repair: Annotated[str | None, described("What the repair did.")]


class WebhookReceipt(TypedDict):
    """The acknowledgement of a Stripe event."""

    received: Annotated[bool, described("Always true.")]
    new: Annotated[bool, described("False if the event was received before.")]


def drift_shape(view: DriftView) -> Drift:
    """A finding, and what was done about it."""
    times: dict[str, Any] = {"found_at": time_text(view.found_at), "repaired_at": optional_time(view.repaired_at)}
    return cast("Drift", {**asdict(view), **times})


@router.get("/drift", operation_id="listDrift", summary="List differences from Stripe")
@needs(Scope.INVOICES_READ)
def read_drift(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    period: MonthFilter = None,
    reconciliation_id: Annotated[Text | None, Query(description="Only findings of this reconciliation.")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TIME, TEXT, NUMBER)] = None,
) -> Page[Drift]:
    """What reconciliations found to differ at Stripe, the newest first, and what was done about it."""
    position = decode_cursor(cursor, length=3)
    found = list_drift(
        connection,
        customer_id=require_customer(key, customer_id),
        period=month_text(period),
        reconciliation_id=reconciliation_id,
        before=(parse_time(position[0]), position[1], parse_number(position[2])) if position else None,
        limit=limit + 1,
    )
    return page_of(
        found,
        limit=limit,
        shape=drift_shape,
        position=lambda each: [time_part(each.found_at), each.reconciliation_id, str(each.finding)],
    )


@webhook_router.post(
    "/stripe/webhook",
    operation_id="takeStripeWebhook",
    summary="Receive a Stripe event",
    responses=problem_responses(InvalidWebhookError, NotFoundError, DatabaseUnavailableError),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object", "description": "An event, as Stripe has it."}}
            },
        },
        "parameters": [
            {
                "name": "Stripe-Signature",
                "in": "header",
                "required": True,
                "description": "Stripe's signature of the body.",
                "schema": {"type": "string", "examples": ["t=1795446000,v1=5257a869e7ec"]},
            }
        ],
    },
)
@open_to_all
async def take_webhook(request: Request, service: TheService) -> WebhookReceipt:
    """For Stripe only. The event is verified and stored once; workers then look up what has changed at Stripe."""
    signature = request.headers.get("stripe-signature")
    if signature is None:
        raise InvalidWebhookError("Stripe-Signature: required")
    secret = service.settings.stripe_webhook_secret
    if secret is None:
        raise NotFoundError("STRIPE_WEBHOOK_SECRET is not set: no webhook can be verified")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_WEBHOOK:
            raise InvalidWebhookError("the body is larger than any event")
    now = utc_now()
    event = parse_webhook(body=bytes(body), signature=signature, secret=secret.get_secret_value(), now=now)
    new = await run_in_threadpool(take_stripe_event, engine=service.engine, event=event, now=now)
    return {"received": True, "new": new}
