"""An invoice of ours, and what Stripe may have of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from metering.core.period import BillingPeriod
from metering.months.invoice import Invoice, InvoiceLine, LineKind, LineSum, invoice_id_of
from metering.stripe.push import CURRENCY, LINE_MARK, WantedInvoice, wanted_invoice
from metering.stripe.snapshot import Snapshot, SnapshotLine, StripeStatus

NOVEMBER = BillingPeriod(2026, 11)
CREATED = datetime(2026, 12, 2, tzinfo=UTC)


def invoice_of(*cents: int) -> Invoice:
    """An invoice with a line of usage for each of these cents, of models m0, m1, ..."""
    lines = [
        LineSum(
            kind=LineKind.USAGE,
            usd_cents=Decimal(each),
            starts_at=datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=number),
            ends_at=datetime(2026, 11, 2, tzinfo=UTC) + timedelta(hours=number),
            provider="p",
            model=f"m{number}",
        )
        for number, each in enumerate(cents)
    ]
    return Invoice(
        invoice_id=invoice_id_of(customer_id="acme", period=NOVEMBER),
        customer_id="acme",
        period=NOVEMBER,
        previous_invoice_id=None,
        exact_usd_cents=Decimal(sum(cents)),
        carried_in_usd_cents=Decimal(0),
        billed_cents=sum(cents),
        remainder_usd_cents=Decimal(0),
        minimum_cents=0,
        lines=tuple(InvoiceLine(sum=line, billed_cents=int(line.usd_cents)) for line in lines),
    )


def wanted_of(*cents: int) -> WantedInvoice:
    """What Stripe is to have of it."""
    return wanted_invoice(
        invoice=invoice_of(*cents), number="2026-11-000001", environment="tests", stripe_customer_id="cus_1"
    )


def snapshot_of(wanted: WantedInvoice, **changes: object) -> Snapshot:
    """The invoice at Stripe, a draft that is as it should be but for the changes."""
    lines = tuple(
        SnapshotLine(
            stripe_line_id=f"il_{number}",
            amount=line.amount,
            description=line.description,
            metadata={LINE_MARK: line.mark},
        )
        for number, line in enumerate(wanted.lines)
    )
    plain = Snapshot(
        stripe_invoice_id="in_1",
        stripe_customer_id=wanted.stripe_customer_id,
        status=StripeStatus.DRAFT,
        currency=CURRENCY,
        subtotal=wanted.billed_cents,
        credited=0,
        number=None,
        description=wanted.description,
        metadata=wanted.metadata,
        created_at=CREATED,
        url=None,
        lines=lines,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]
