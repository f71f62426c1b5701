"""The shapes of invoices and of drift."""

from dataclasses import asdict
from typing import Any

from metering.api.shapes import time_text
from metering.core.money import cents_text
from metering.months.invoice import InvoiceLine, describe
from metering.months.store.invoices import StoredInvoice
from metering.stripe.queries.pushes import DriftView, PushView


def invoice_shape(stored: StoredInvoice, push: PushView) -> dict[str, Any]:
    """An invoice: what it is of, how it was rounded, its lines, and where it is at Stripe."""
    invoice, closed = stored.invoice, stored.closed
    return {
        "invoice_id": invoice.invoice_id,
        "number": stored.number,
        "customer_id": invoice.customer_id,
        "period": str(invoice.period),
        "state": push.state.value,
        "time_zone": closed.time_zone,
        "starts_at": time_text(closed.starts_at),
        "ends_at": time_text(closed.ends_at),
        "closed_at": time_text(closed.closed_at),
        "created_at": time_text(stored.created_at),
        "force_reason": closed.force_reason,
        "exact_usd_cents": cents_text(invoice.exact_usd_cents),
        "carried_in_usd_cents": cents_text(invoice.carried_in_usd_cents),
        "billed_cents": invoice.billed_cents,
        "remainder_usd_cents": cents_text(invoice.remainder_usd_cents),
        "minimum_cents": invoice.minimum_cents,
        "previous_invoice_id": invoice.previous_invoice_id,
        "entry_count": closed.entry_count,
        "seal": closed.seal.hex(),
        "stripe_invoice_id": push.stripe_invoice_id,
        "stripe_number": push.stripe_number,
        "stripe_url": push.stripe_url,
        "problem": push.problem,
        "lines": [_line_shape(line) for line in invoice.lines],
    }


def _line_shape(line: InvoiceLine) -> dict[str, Any]:
    each = line.sum
    return {
        "line_key": each.line_key,
        "kind": each.kind.value,
        "description": describe(line),
        "month": each.month,
        "provider": each.provider,
        "model": each.model,
        "adjustment_id": each.adjustment_id,
        "reason": each.reason,
        "starts_at": time_text(each.starts_at),
        "ends_at": time_text(each.ends_at),
        "stream_count": each.stream_count,
        "usage": each.usage.known(),
        "usd_cents": cents_text(each.usd_cents),
        "billed_cents": line.billed_cents,
    }


def drift_shape(view: DriftView) -> dict[str, Any]:
    """A finding, and what was done about it."""
    return {
        **asdict(view),
        "found_at": time_text(view.found_at),
        "repaired_at": time_text(view.repaired_at) if view.repaired_at else None,
    }
