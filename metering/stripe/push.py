"""A push: writing an invoice to Stripe. Its states, and what is written.

Our mark, `<environment>/<invoice id>`, is in the metadata and in the description of Stripe's invoice. People may
edit either of them; one is enough to find the invoice again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.core.ids import digest
from metering.months.invoice import Invoice, InvoiceLine, describe
from metering.months.line_rates import LineRate, RatesOfLines, quantity_text, rate_rows
from metering.stripe.snapshot import Snapshot

CURRENCY = "usd"
# Stripe accepts 250 lines, but a customer reads about 10. The customer's statement has all of them.
MAX_LINES = 10
INVOICE_MARK, LINE_MARK, PERIOD_MARK = "metering_invoice", "metering_line", "metering_period"
_OTHER = "other"
_MARK = re.compile(r"(?P<environment>[\w.-]+)/(?P<invoice_id>inv_[0-9a-f]{24})(?:#adjustment-(?P<number>\d+))?")


class PushState(StrEnum):
    """The progress of an invoice at Stripe.

    Up to `UNKNOWN` a worker goes on with the push. From `FINAL` on, the push waits until something wakes it: a
    Stripe event, a repair, or for `UNLINKED` and `STUCK` a Stripe id of the customer.
    """

    PENDING = "pending"
    LOOKUP = "lookup"
    CREATING = "creating"
    LINING = "lining"
    VERIFYING = "verifying"
    FINALIZING = "finalizing"
    UNKNOWN = "unknown"
    FINAL = "final"
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"
    DEFERRED = "deferred"
    UNLINKED = "unlinked"
    STUCK = "stuck"


# Stripe has the invoice finalized.
AT_STRIPE = frozenset({PushState.FINAL, PushState.PAID, PushState.VOID, PushState.UNCOLLECTIBLE})
# The push is in progress; pushes of the customer's later invoices wait for it.
UNDER_WAY = frozenset(PushState) - AT_STRIPE - {PushState.DEFERRED, PushState.UNLINKED, PushState.STUCK}


def owner_of(state: PushState, *, pushed_to: str | None, linked: str | None) -> str | None:
    """The Stripe customer that an invoice belongs to; None if there is none yet.

    A final invoice stays with the customer that it was written to. Before that, it follows the customer's link.
    """
    return pushed_to or linked if state in AT_STRIPE else linked


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Identifies our invoice at Stripe. `adjustment` numbers the adjustment invoices from 1; 0 is the first."""

    environment: str
    invoice_id: str
    adjustment: int = 0

    def __str__(self) -> str:
        suffix = f"#adjustment-{self.adjustment}" if self.adjustment else ""
        return f"{self.environment}/{self.invoice_id}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLine:
    """A line that Stripe's invoice should have, in whole cents; `mark` identifies it within the invoice."""

    mark: str
    amount: int
    description: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedInvoice:
    """What Stripe should have of an invoice. The lines add up to `billed_cents`."""

    mark: Mark
    stripe_customer_id: str
    period: str
    description: str
    metadata: Mapping[str, str]
    billed_cents: int
    lines: tuple[WantedLine, ...]


def wanted_invoice(
    *,
    invoice: Invoice,
    number: str,
    environment: str,
    stripe_customer_id: str,
    rates: RatesOfLines | None = None,
) -> WantedInvoice:
    """What Stripe should have of an invoice: the same whole cents, in at most MAX_LINES lines.

    Descriptions end with quantity x rate of each kind, where `rates` are given; nothing depends on them.
    """
    mark = Mark(environment=environment, invoice_id=invoice.invoice_id)
    return WantedInvoice(
        mark=mark,
        stripe_customer_id=stripe_customer_id,
        period=str(invoice.period),
        description=f"LLM usage {invoice.period}, statement {number} ({mark})",
        metadata={
            INVOICE_MARK: str(mark),
            PERIOD_MARK: str(invoice.period),
            "metering_customer": invoice.customer_id,
            "metering_statement": number,
        },
        billed_cents=invoice.billed_cents,
        lines=tuple(_wanted_lines(invoice.lines, rates or {})),
    )


def mark_of(snapshot: Snapshot) -> Mark | None:
    """Our mark in an invoice of Stripe's; None when it has none."""
    for text in (snapshot.metadata.get(INVOICE_MARK), snapshot.description):
        found = _MARK.search(text) if text else None
        if found is not None:
            return Mark(
                environment=found["environment"],
                invoice_id=found["invoice_id"],
                adjustment=int(found["number"] or 0),
            )
    return None


def _wanted_lines(lines: Sequence[InvoiceLine], rates: RatesOfLines) -> list[WantedLine]:
    """The lines that bill cents, in the invoice's order; above MAX_LINES the smallest become one line."""
    billed = [line for line in lines if line.billed_cents]
    if len(billed) <= MAX_LINES:
        return [_wanted_line(line, rates) for line in billed]
    by_size = sorted(billed, key=lambda line: (-abs(line.billed_cents), line.sum.line_key))
    kept = {line.sum.line_key for line in by_size[: MAX_LINES - 1]}
    rest = [line for line in billed if line.sum.line_key not in kept]
    return [
        *(_wanted_line(line, rates) for line in billed if line.sum.line_key in kept),
        WantedLine(
            mark=_OTHER,
            amount=sum(line.billed_cents for line in rest),
            description=f"{len(rest)} further lines, listed on the statement",
            starts_at=min(line.sum.starts_at for line in rest),
            ends_at=max(line.sum.ends_at for line in rest),
        ),
    ]


def _wanted_line(line: InvoiceLine, rates: RatesOfLines) -> WantedLine:
    return WantedLine(
        mark=digest(line.sum.line_key),
        amount=line.billed_cents,
        description=_described(line, rates.get(line.sum.line_key, ())),
        starts_at=line.sum.starts_at,
        ends_at=line.sum.ends_at,
    )


# The longest description that Stripe takes.
_LONGEST = 500
_ON_STATEMENT = "; more rates on the statement"


def _described(line: InvoiceLine, rates: Sequence[LineRate]) -> str:
    """A line in words, with as many of its rates as fit."""
    text = describe(line)[:_LONGEST]
    rows = [row for row in rate_rows(rates) if row.usd is not None and row.quantity is not None]
    for place, row in enumerate(rows):
        joint = "; " if place else ". "
        more = f"{joint}{row.what} {quantity_text(row.quantity or 0)} x {row.rate()}"
        is_last = place == len(rows) - 1
        if len(text) + len(more) + (0 if is_last else len(_ON_STATEMENT)) > _LONGEST:
            return text + _ON_STATEMENT if len(text) + len(_ON_STATEMENT) <= _LONGEST else text
        text += more
    return text
