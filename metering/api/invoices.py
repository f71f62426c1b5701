"""`GET /v1/invoices`, one invoice, and its usage statement as a PDF or a page."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NotRequired, cast

from fastapi import Path, Query
from sqlalchemy import Connection
from starlette.responses import Response
from typing_extensions import TypedDict

from metering.access.keys import Key
from metering.access.scopes import Scope
from metering.api.answers import (
    Cents,
    Count,
    CustomerId,
    Month,
    RareCounts,
    Time,
    TimeZone,
    Usd,
    described,
    plain_counts,
    time_text,
)
from metering.api.auth import Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import CustomerFilter, Db, MonthFilter, Text, TheService, month_text
from metering.api.problems import NotFoundError
from metering.api.routes import raises, v1_router
from metering.core.cursors import TEXT, decode_cursor
from metering.core.money import cents_text
from metering.events.usage import Usage, UsageKind
from metering.exports.make_statement import make_statement
from metering.months.invoice import InvoiceLine as StoredLine
from metering.months.invoice import LineKind, describe
from metering.months.line_rates import LineRate as KeptRate
from metering.months.line_rates import RatesOfLines
from metering.months.queries.invoices import InvoiceFilter, find_invoice, list_invoices
from metering.months.queries.line_rates import kept_line_rates
from metering.months.statements.rendering import statement_html, statement_pdf
from metering.months.store.invoices import StoredInvoice
from metering.server.bootstrap import issuer
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import PushView, push_views

router = v1_router("invoices")

InvoicePath = Annotated[
    Text, Path(description="The id or the number of the invoice.", examples=["inv_5d4c0a9b", "2026-11-000001"])
]


class SummedUsage(RareCounts):
    """Counts that a line sums. A counter that no stream reported is absent."""

    input_tokens: NotRequired[Annotated[Count, described("Input tokens, cached and audio input included.")]]
    output_tokens: NotRequired[Annotated[Count, described("Output tokens, reasoning and audio output included.")]]
    cache_read_input_tokens: NotRequired[Annotated[Count, described("Input tokens read from a prompt cache.")]]
    cache_write_input_tokens: NotRequired[Annotated[Count, described("Input tokens written to a prompt cache.")]]
    reasoning_output_tokens: NotRequired[Annotated[Count, described("Output tokens spent on reasoning.")]]
    input_audio_tokens: NotRequired[Annotated[Count, described("Audio tokens of the input.")]]
    output_audio_tokens: NotRequired[Annotated[Count, described("Audio tokens of the output.")]]


class LineRate(TypedDict):
    """What a line sums of one kind at one rate: `usd_cents` = `quantity` x `usd_per_million` / 10,000.

    A kind in seconds has `usd_per_hour`: `usd_cents` sums `quantity` x `usd_per_hour` / 36 of each stream, rounded
    to 12 decimal places. Without a rate, each stream was priced by itself.
    """

    kind: Annotated[UsageKind | None, described("What is counted; null for streams without a charge.")]
    quantity: Annotated[int | str, described("The units, or seconds as a string.", example=980112)]
    usd_per_million: Annotated[Usd | None, described("US dollars per million units, with markup.", example="5")]
    usd_per_hour: Annotated[str | None, described("US dollars per hour of a kind in seconds, with markup.")]
    usd_cents: Annotated[Cents, described("The exact amount; the rates of a line sum to it.", example="490.056")]


class InvoiceLine(TypedDict):
    """A line of an invoice: its exact cents, and its share of the whole cents that are billed."""

    line_key: Annotated[str, described("Unique within the invoice.", example="usage/anthropic/claude-opus-4.7")]
    kind: Annotated[LineKind, described("What the line sums.")]
    description: Annotated[str, described("The line in words, as Stripe shows it.")]
    month: Annotated[str | None, described("The month that late usage or adjustments belong to.")]
    provider: Annotated[str | None, described("The provider; null where the line has none.", example="anthropic")]
    model: Annotated[str | None, described("The model; null where the line has none.", example="claude-opus-4.7")]
    adjustment_id: Annotated[str | None, described("The manual adjustment that the line is for.")]
    reason: Annotated[str | None, described("Why the manual adjustment was booked.")]
    starts_at: Annotated[Time, described("Start of the time that the line covers.")]
    ends_at: Annotated[Time, described("Its end, exclusive.")]
    stream_count: Annotated[Count, described("How many streams the line sums.")]
    usage: Annotated[SummedUsage, described("The usage that the line sums.")]
    usd_cents: Annotated[Cents, described("The exact amount of the line.")]
    billed_cents: Annotated[int, described("Its whole cents on the invoice; they add up to the invoice's.")]
    rates: Annotated[
        list[LineRate],
        described("What usage and adjustments consist of; empty for other lines, and before a worker added them."),
    ]


class AddressOfPayer(TypedDict):
    """An address, as Stripe has it."""

    line1: Annotated[str | None, described("The street, or a post office box.", example="Invalidenstr. 1")]
    line2: Annotated[str | None, described("The suite or the building.")]
    postal_code: Annotated[str | None, described("The postal code.", example="10115")]
    city: Annotated[str | None, described("The city.", example="Berlin")]
    state: Annotated[str | None, described("The state, the county or the province.")]
    country: Annotated[str | None, described("The country, by its code of two letters.", example="DE")]


class TaxIdOfPayer(TypedDict):
    """A tax id, as Stripe has it."""

    type: Annotated[str, described("The type of the id, by Stripe's name.", example="eu_vat")]
    value: Annotated[str, described("The id.", example="DE123456789")]


class Payer(TypedDict):
    """Who an invoice is billed to. Stripe keeps it from the finalization on."""

    name: Annotated[str | None, described("The name at Stripe.", example="Acme Ltd")]
    address: Annotated[AddressOfPayer | None, described("The address; null where Stripe has none.")]
    tax_ids: Annotated[list[TaxIdOfPayer], described("The tax ids; empty where Stripe has none.")]


class Invoice(TypedDict):
    """An invoice: its lines, how it was rounded, and its state at Stripe.

    `exact_usd_cents` + `carried_in_usd_cents` - `prepaid_usd_cents` = `billed_cents` + `remainder_usd_cents`.
    """

    invoice_id: Annotated[str, described("The id of the invoice.", example="inv_5d4c0a9b")]
    number: Annotated[str, described("Its number, for people.", example="2026-11-000001")]
    customer_id: CustomerId
    period: Annotated[Month, described("The month that it bills.")]
    state: Annotated[PushState, described("How far it is at Stripe.")]
    time_zone: TimeZone
    starts_at: Annotated[Time, described("Start of the month in the customer's time zone.")]
    ends_at: Annotated[Time, described("Its end, exclusive.")]
    closed_at: Annotated[Time, described("When the month was closed.")]
    created_at: Annotated[Time, described("When the invoice was created.")]
    force_reason: Annotated[str | None, described("Why the month was closed although streams were not final.")]
    exact_usd_cents: Annotated[Cents, described("The exact sum of the month.", example="1284.4985")]
    carried_in_usd_cents: Annotated[Cents, described("The remainder of the invoice before.", example="0.2")]
    prepaid_usd_cents: Annotated[Cents, described("What prepaid credit paid of the month.", example="0")]
    billed_cents: Annotated[int, described("The whole cents that are billed.", example=1284)]
    remainder_usd_cents: Annotated[
        Cents, described("What is carried to the next invoice: from 0 to less than 1 cent.", example="0.6985")
    ]
    minimum_cents: Annotated[int, described("Below this amount nothing is billed, and all of it is carried.")]
    previous_invoice_id: Annotated[str | None, described("The customer's invoice before; null for the first.")]
    entry_count: Annotated[Count, described("How many charges and adjustments it sums.")]
    seal: Annotated[str, described("A hash over all of them, in hex.")]
    stripe_invoice_id: Annotated[str | None, described("Stripe's invoice; null until there is one.")]
    stripe_number: Annotated[str | None, described("Stripe's number of it.")]
    stripe_url: Annotated[str | None, described("Where the customer sees and pays it.")]
    bill_to: Annotated[Payer | None, described("Who it is billed to; null until it was read at Stripe.")]
    finalized_at: Annotated[Time | None, described("When it was finalized at Stripe.")]
    payment_due_at: Annotated[Time | None, described("When it has to be paid; null where Stripe has no due date.")]
    paid_at: Annotated[Time | None, described("When it was paid at Stripe.")]
    problem: Annotated[str | None, described("What keeps it from going on at Stripe.")]
    lines: Annotated[list[InvoiceLine], described("Its lines.")]


def invoice_shape(stored: StoredInvoice, push: PushView, rates: RatesOfLines) -> Invoice:
    """An invoice with its lines, its rounding and its state at Stripe."""
    invoice, closed = stored.invoice, stored.closed
    return {
        "invoice_id": invoice.invoice_id,
        "number": stored.number,
        "customer_id": invoice.customer_id,
        "period": str(invoice.period),
        "state": push.state,
        "time_zone": closed.time_zone,
        "starts_at": time_text(closed.starts_at),
        "ends_at": time_text(closed.ends_at),
        "closed_at": time_text(closed.closed_at),
        "created_at": time_text(stored.created_at),
        "force_reason": closed.force_reason,
        "exact_usd_cents": cents_text(invoice.exact_usd_cents),
        "carried_in_usd_cents": cents_text(invoice.carried_in_usd_cents),
        "prepaid_usd_cents": cents_text(invoice.prepaid_usd_cents),
        "billed_cents": invoice.billed_cents,
        "remainder_usd_cents": cents_text(invoice.remainder_usd_cents),
        "minimum_cents": invoice.minimum_cents,
        "previous_invoice_id": invoice.previous_invoice_id,
        "entry_count": closed.entry_count,
        "seal": closed.seal.hex(),
        "stripe_invoice_id": push.stripe_invoice_id,
        "stripe_number": push.stripe_number,
        "stripe_url": push.stripe_url,
        "bill_to": cast("Payer", asdict(push.bill_to)) if push.bill_to else None,
        "finalized_at": _time_or_none(push.finalized_at),
        "payment_due_at": _time_or_none(push.payment_due_at),
        "paid_at": _time_or_none(push.paid_at),
        "problem": push.problem,
        "lines": [_line_shape(line, rates.get(line.sum.line_key, ())) for line in invoice.lines],
    }


def _time_or_none(at: datetime | None) -> str | None:
    return None if at is None else time_text(at)


def _line_shape(line: StoredLine, rates: Sequence[KeptRate]) -> InvoiceLine:
    each = line.sum
    return {
        "line_key": each.line_key,
        "kind": each.kind,
        "description": describe(line),
        "month": each.month,
        "provider": each.provider,
        "model": each.model,
        "adjustment_id": each.adjustment_id,
        "reason": each.reason,
        "starts_at": time_text(each.starts_at),
        "ends_at": time_text(each.ends_at),
        "stream_count": each.stream_count,
        "usage": _usage_shape(each.usage),
        "usd_cents": cents_text(each.usd_cents),
        "billed_cents": line.billed_cents,
        "rates": [_rate_shape(rate) for rate in rates],
    }


def _rate_shape(rate: KeptRate) -> LineRate:
    return {
        "kind": rate.kind,
        "quantity": rate.quantity if isinstance(rate.quantity, int) else cents_text(rate.quantity),
        "usd_per_million": None if rate.usd_per_million is None else cents_text(rate.usd_per_million),
        "usd_per_hour": None if rate.usd_per_hour is None else cents_text(rate.usd_per_hour),
        "usd_cents": cents_text(rate.usd_cents),
    }


def _usage_shape(usage: Usage) -> SummedUsage:
    return cast("SummedUsage", plain_counts(usage.known()))


@router.get("/invoices", operation_id="listInvoices", summary="List invoices")
@needs(Scope.INVOICES_READ)
def read_invoices(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    period: MonthFilter = None,
    state: Annotated[PushState | None, Query(description="Only invoices in this state at Stripe.")] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TEXT, TEXT)] = None,
) -> Page[Invoice]:
    """Invoices with their lines and their state at Stripe, the newest month first."""
    where = InvoiceFilter(
        customer_id=require_customer(key, customer_id),
        period=month_text(period),
        state=state.value if state else None,
    )
    position = decode_cursor(cursor, length=2)
    before = (position[0], position[1]) if position else None
    found = list_invoices(connection, where=where, before=before, limit=limit + 1)
    keys = [(each.invoice.customer_id, each.invoice.invoice_id) for each in found]
    pushes, rates = push_views(connection, keys), kept_line_rates(connection, keys)
    return page_of(
        found,
        limit=limit,
        shape=lambda each: invoice_shape(each, pushes[each.invoice.invoice_id], rates[each.invoice.invoice_id]),
        position=lambda each: [str(each.invoice.period), each.invoice.customer_id],
    )


@router.get("/invoices/{invoice_id}", operation_id="getInvoice", summary="Get an invoice")
@needs(Scope.INVOICES_READ)
@raises(NotFoundError)
def read_invoice(invoice_id: InvoicePath, key: Caller, connection: Db) -> Invoice:
    """One invoice, by its id or its number."""
    stored = _stored(connection, key, invoice_id)
    invoice_id = stored.invoice.invoice_id
    keys = [(stored.invoice.customer_id, invoice_id)]
    rates = kept_line_rates(connection, keys)[invoice_id]
    return invoice_shape(stored, push_views(connection, keys)[invoice_id], rates)


class StatementFormat(StrEnum):
    """The file format of a usage statement."""

    PDF = "pdf"
    HTML = "html"


# Allows the page's own style and nothing else: names on the page are the customers' text.
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@router.get(
    "/invoices/{invoice_id}/statement.{format}",
    operation_id="getStatement",
    summary="Download a usage statement",
    response_class=Response,
    responses={
        200: {
            "description": "The statement, in the format of the path.",
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/pdf": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
@needs(Scope.INVOICES_READ)
@raises(NotFoundError)
def read_statement(
    invoice_id: InvoicePath,
    format: Annotated[StatementFormat, Path(description="The file format.")],
    key: Caller,
    connection: Db,
    service: TheService,
) -> Response:
    """The usage statement of an invoice, for its customer: a PDF or a page."""
    stored = _stored(connection, key, invoice_id)
    statement = make_statement(connection, stored=stored, issuer=issuer(service.settings))
    headers = {"content-disposition": f'inline; filename="statement-{stored.number}.{format.value}"'}
    if format is StatementFormat.PDF:
        return Response(statement_pdf(statement), media_type="application/pdf", headers=headers)
    headers |= {"content-security-policy": _PAGE_POLICY, "x-content-type-options": "nosniff"}
    return Response(statement_html(statement), media_type="text/html", headers=headers)


def _stored(connection: Connection, key: Key, invoice_id: str) -> StoredInvoice:
    """An invoice that the key may see, by its id or number."""
    stored = find_invoice(connection, invoice_id=invoice_id)
    if stored is None or (key.customer_id is not None and key.customer_id != stored.invoice.customer_id):
        raise NotFoundError(f"there is no invoice {invoice_id!r}")
    return stored
