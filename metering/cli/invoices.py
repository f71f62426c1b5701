"""`metering invoices list` and `metering invoices show`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from metering.cli.options import AsJson, Limit, OnlyCustomer
from metering.cli.periods import check_begun, month_or_none
from metering.cli.service import database
from metering.core.clock import utc_now
from metering.core.errors import MeteringError
from metering.core.money import cents_text
from metering.db.engine import transaction
from metering.months.invoice import InvoiceLine, LineKind
from metering.months.line_rates import LineRate, quantity_text, rate_decimals, rate_rows
from metering.months.queries.invoices import InvoiceFilter, find_invoice, list_invoices
from metering.months.queries.line_rates import kept_line_rates
from metering.months.store.invoices import StoredInvoice
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import show, show_one
from metering.stripe.bill_to import BillTo
from metering.stripe.push import PushState
from metering.stripe.queries.pushes import PushView, push_views

app = typer.Typer()


class UnknownInvoiceError(MeteringError):
    """No invoice has this ID or number."""


@app.command("list", epilog="Example: metering invoices list --period 2026-10 --state stuck")
def list_them(
    period: Annotated[str | None, typer.Option(help="Only this month.")] = None,
    customer: OnlyCustomer = None,
    state: Annotated[PushState | None, typer.Option(help="Only this state at Stripe, e.g. stuck.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List invoices, newest month first."""
    month = month_or_none(period)
    where = InvoiceFilter(
        customer_id=customer, period=str(month) if month else None, state=state.value if state else None
    )
    with database() as connection:
        found = list_invoices(connection, where=where, before=None, limit=limit)
        pushes = push_views(connection, [(each.invoice.customer_id, each.invoice.invoice_id) for each in found])
    rows = [_row(each, pushes[each.invoice.invoice_id]) for each in found]
    if not rows:
        check_begun(month, now=utc_now())
    filtered = customer or month or state
    show(
        rows,
        as_json=as_json,
        empty="no invoices match"
        if filtered
        else "no invoices yet: close a month with `metering invoices run --period …`",
        important=("number", "state", "customer_id", "billed_cents"),
    )


@app.command("show", epilog="Example: metering invoices show 2026-10-000001 --pdf statement.pdf")
def show_it(
    invoice: Annotated[str, typer.Argument(help="The invoice's ID or number.")],
    pdf: Annotated[Path | None, typer.Option(help="Also write its usage statement to this file, as PDF.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write its usage statement to this file, as HTML.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show an invoice with its lines, and write its usage statement."""
    service = build_service(load_settings())
    with transaction(service.engine) as connection:
        found = find_invoice(connection, invoice_id=invoice)
        if found is None:
            raise UnknownInvoiceError(f"there is no invoice {invoice!r}: see `metering invoices list`")
        key = (found.invoice.customer_id, found.invoice.invoice_id)
        push = push_views(connection, [key])[found.invoice.invoice_id]
        rates = kept_line_rates(connection, [key])[found.invoice.invoice_id]
        if pdf is not None or html is not None:
            # It takes as long to import as all else together.
            files = import_module("metering.cli.statement_files")
            files.write_statement(connection, stored=found, settings=service.settings, pdf=pdf, html=html)
    lines = [
        {
            "kind": line.sum.kind.value,
            "month": line.sum.month,
            "model": line.sum.model,
            "what": line.sum.reason,
            "streams": line.sum.stream_count,
            "usd_cents": cents_text(line.sum.usd_cents),
            "billed_cents": line.billed_cents,
            "rates": [_rate(rate) for rate in rates.get(line.sum.line_key, ())],
        }
        for line in found.invoice.lines
    ]
    if as_json:
        show_one({**_row(found, push), **_details(found, push), "lines": lines}, as_json=True)
        return
    bill_to = push.bill_to or BillTo()
    payer = {"bill_to": ", ".join(filter(None, (bill_to.name, *bill_to.lines))) or None}
    show_one({**_row(found, push), **_details(found, push), **payer}, as_json=False)
    print()
    rows = [row for line in found.invoice.lines for row in _line_rows(line, rates.get(line.sum.line_key, ()))]
    show(rows, as_json=False, empty="no lines", important=("line", "usd_cents", "rate", "quantity"))


def _line_rows(line: InvoiceLine, rates: Sequence[LineRate]) -> Iterator[dict[str, Any]]:
    """A line, and beneath it quantity x rate of each kind."""
    yield {
        "line": _name(line),
        "streams": line.sum.stream_count or None,
        "quantity": None,
        "rate": None,
        "usd_cents": cents_text(line.sum.usd_cents),
        "billed_cents": line.billed_cents,
    }
    rows = rate_rows(rates)
    decimals = rate_decimals(rows)
    for row in rows:
        yield {
            "line": f"· {row.what}",
            "streams": None,
            "quantity": None if row.quantity is None else quantity_text(row.quantity),
            "rate": row.rate(decimals) or None,
            "usd_cents": cents_text(row.usd_cents),
            "billed_cents": None,
        }


def _name(line: InvoiceLine) -> str:
    each = line.sum
    match each.kind:
        case LineKind.USAGE:
            return f"{each.provider}/{each.model}"
        case LineKind.CARRIED_IN:
            return f"carried over from {each.month}"
        case LineKind.CREDIT | LineKind.CORRECTION:
            return f"{each.kind.value}: {each.reason}"
    return f"{each.kind.value.replace('_', ' ')} of {each.month}, {each.provider}/{each.model}"


def _rate(rate: LineRate) -> dict[str, Any]:
    return {
        "kind": rate.kind.value if rate.kind else None,
        "quantity": rate.quantity if isinstance(rate.quantity, int) else cents_text(rate.quantity),
        "usd_per_million": None if rate.usd_per_million is None else cents_text(rate.usd_per_million),
        "usd_per_hour": None if rate.usd_per_hour is None else cents_text(rate.usd_per_hour),
        "usd_cents": cents_text(rate.usd_cents),
    }


def _details(stored: StoredInvoice, push: PushView) -> dict[str, Any]:
    return {
        "invoice_id": stored.invoice.invoice_id,
        "closed_at": stored.closed.closed_at.isoformat(),
        "entries": stored.closed.entry_count,
        "seal": stored.closed.seal.hex(),
        "stripe_invoice_id": push.stripe_invoice_id,
        "stripe_url": push.stripe_url,
        "bill_to": asdict(push.bill_to) if push.bill_to else None,
        "payment_due_at": push.payment_due_at.isoformat() if push.payment_due_at else None,
        "paid_at": push.paid_at.isoformat() if push.paid_at else None,
        "problem": push.problem,
    }


def _row(stored: StoredInvoice, push: PushView) -> dict[str, Any]:
    invoice = stored.invoice
    return {
        "number": stored.number,
        "state": push.state.value,
        "customer_id": invoice.customer_id,
        "period": str(invoice.period),
        "usd_cents": cents_text(invoice.exact_usd_cents),
        "prepaid_usd_cents": cents_text(invoice.prepaid_usd_cents),
        "carried_in_usd_cents": cents_text(invoice.carried_in_usd_cents),
        "billed_cents": invoice.billed_cents,
        "remainder_usd_cents": cents_text(invoice.remainder_usd_cents),
    }
