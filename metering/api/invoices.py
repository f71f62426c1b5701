"""`GET /v1/invoices`, `GET /v1/drift`, and `POST /v1/stripe/webhook`."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from metering.access.store.keys import Key
from metering.api.auth import Reader, require_customer
from metering.api.errors import NotFoundError
from metering.api.invoice_shapes import drift_shape, invoice_shape
from metering.api.paging import Cursor, Limit, page_of
from metering.api.reading import Db, TheService
from metering.api.shapes import Page
from metering.api.stream_paths import text_of
from metering.core.clock import utc_now
from metering.core.cursors import decode_cursor, moment_in, number_in
from metering.core.period import BillingPeriod
from metering.exports.make_statement import make_statement
from metering.months.queries.invoices import InvoiceFilter, find_invoice, list_invoices
from metering.months.statements.rendering import statement_html, statement_pdf
from metering.months.store.invoices import StoredInvoice
from metering.server.bootstrap import issuer
from metering.stripe.client.webhook import InvalidWebhookError, parse_webhook
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import list_drift, push_views
from metering.stripe.take_stripe_event import take_stripe_event

router = APIRouter(prefix="/v1", tags=["months"])

# Stripe's events are smaller by far.
_MAX_WEBHOOK = 1024 * 1024

Month = Annotated[str | None, Query(description="A month, such as 2026-10")]


@router.get("/invoices")
def read_invoices(
    key: Reader,
    connection: Db,
    customer_id: str | None = None,
    period: Month = None,
    state: PushState | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """Invoices with their lines and where they are at Stripe, the newest month first."""
    where = InvoiceFilter(
        customer_id=require_customer(key, text_of(customer_id)),
        period=_month(period),
        state=state.value if state else None,
    )
    position = decode_cursor(cursor, length=2)
    before = (position[0], position[1]) if position else None
    found = list_invoices(connection, where=where, before=before, limit=limit + 1)
    pushes = push_views(connection, [(each.invoice.customer_id, each.invoice.invoice_id) for each in found])
    return page_of(
        found,
        limit=limit,
        shape=lambda each: invoice_shape(each, pushes[each.invoice.invoice_id]),
        position=lambda each: [str(each.invoice.period), each.invoice.customer_id],
    )


@router.get("/invoices/{invoice_id}")
def read_invoice(invoice_id: str, key: Reader, connection: Db) -> dict[str, Any]:
    """One invoice, by its id or its number."""
    stored = _stored(connection, key, invoice_id)
    keys = [(stored.invoice.customer_id, stored.invoice.invoice_id)]
    return invoice_shape(stored, push_views(connection, keys)[stored.invoice.invoice_id])


class StatementFormat(StrEnum):
    """How a usage statement is rendered."""

    PDF = "pdf"
    HTML = "html"


# The page's own style, and nothing else: names on it are the customers'.
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@router.get("/invoices/{invoice_id}/statement.{format}")
def read_statement(
    invoice_id: str, format: StatementFormat, key: Reader, connection: Db, service: TheService
) -> Response:
    """The usage statement of an invoice, for its customer: a PDF or a page."""
    stored = _stored(connection, key, invoice_id)
    statement = make_statement(connection, stored=stored, issuer=issuer(service.settings))
    headers = {"content-disposition": f'inline; filename="statement-{stored.number}.{format.value}"'}
    if format is StatementFormat.PDF:
        return Response(statement_pdf(statement), media_type="application/pdf", headers=headers)
    headers |= {"content-security-policy": _PAGE_POLICY, "x-content-type-options": "nosniff"}
    return Response(statement_html(statement), media_type="text/html", headers=headers)


@router.get("/drift")
def read_drift(
    key: Reader,
    connection: Db,
    customer_id: str | None = None,
    period: Month = None,
    reconciliation_id: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page:
    """What reconciliations found to differ at Stripe, the newest first, and what was done about it."""
    position = decode_cursor(cursor, length=3)
    found = list_drift(
        connection,
        customer_id=require_customer(key, text_of(customer_id)),
        period=_month(period),
        reconciliation_id=text_of(reconciliation_id),
        before=(moment_in(position[0]), position[1], number_in(position[2])) if position else None,
        limit=limit + 1,
    )
    return page_of(
        found,
        limit=limit,
        shape=drift_shape,
        position=lambda each: [each.found_at.isoformat(), each.reconciliation_id, str(each.finding)],
    )


@router.post("/stripe/webhook")
async def take_webhook(
    request: Request,
    service: TheService,
    stripe_signature: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """What Stripe posts: verified, kept once, and taken as a hint to look; answered before anybody does."""
    secret = service.settings.stripe_webhook_secret
    if secret is None:
        raise NotFoundError("STRIPE_WEBHOOK_SECRET is not set: no webhook can be verified")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_WEBHOOK:
            raise InvalidWebhookError("the body is larger than any event")
    event = parse_webhook(body=bytes(body), signature=stripe_signature, secret=secret.get_secret_value())
    new = await run_in_threadpool(take_stripe_event, engine=service.engine, event=event, now=utc_now())
    return {"received": True, "new": new}


def _stored(connection: Connection, key: Key, invoice_id: str) -> StoredInvoice:
    """An invoice that the key may see, by its id or number."""
    stored = find_invoice(connection, invoice_id=text_of(invoice_id) or "")
    if stored is None or (key.customer_id is not None and key.customer_id != stored.invoice.customer_id):
        raise NotFoundError(f"there is no invoice {invoice_id!r}")
    return stored


def _month(period: str | None) -> str | None:
    return str(BillingPeriod.parse(period)) if period is not None else None
