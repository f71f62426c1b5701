"""A push: writing an invoice to Stripe. Where it stands, and what is written.

Our mark, `<environment>/<invoice id>`, is in an invoice's metadata and in its description: either may be edited by
hand, and one of them is enough to know it again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.core.ids import digest
from metering.months.invoice import Invoice, InvoiceLine, describe
from metering.stripe.snapshot import Snapshot

CURRENCY = "usd"
# Stripe takes 250; a customer reads 10. The snapshot that goes with it has all of them.
MAX_LINES = 10
INVOICE_MARK, LINE_MARK, PERIOD_MARK = "metering_invoice", "metering_line", "metering_period"
_OTHER = "other"
_MARK = re.compile(r"(?P<environment>[\w.-]+)/(?P<invoice_id>inv_[0-9a-f]{24})(?:#adjustment-(?P<number>\d+))?")


class PushState(StrEnum):
    """How far Stripe has an invoice. Those from `FINAL` on want nothing more of us by themselves."""

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


# What Stripe has and will not change.
AT_STRIPE = frozenset({PushState.FINAL, PushState.PAID, PushState.VOID, PushState.UNCOLLECTIBLE})
# What is on its way there; a later invoice of the customer waits for it.
UNDER_WAY = frozenset(PushState) - AT_STRIPE - {PushState.DEFERRED, PushState.UNLINKED, PushState.STUCK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Which invoice of ours one at Stripe is of. `adjustment` counts those that bill what the first lacked."""

    environment: str
    invoice_id: str
    adjustment: int = 0

    def __str__(self) -> str:
        suffix = f"#adjustment-{self.adjustment}" if self.adjustment else ""
        return f"{self.environment}/{self.invoice_id}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLine:
    """A line that Stripe's invoice is to have, and the mark by which it is known."""

    mark: str
    amount: int
    description: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedInvoice:
    """What Stripe is to have of an invoice; its lines add up to `billed_cents`."""

    mark: Mark
    stripe_customer_id: str
    period: str
    description: str
    metadata: Mapping[str, str]
    billed_cents: int
    lines: tuple[WantedLine, ...]


def wanted_invoice(*, invoice: Invoice, number: str, environment: str, stripe_customer_id: str) -> WantedInvoice:
    """What Stripe is to have of an invoice: the same whole cents, in at most ten lines."""
    mark = Mark(environment=environment, invoice_id=invoice.invoice_id)
    return WantedInvoice(
        mark=mark,
        stripe_customer_id=stripe_customer_id,
        period=str(invoice.period),
        description=f"LLM usage {invoice.period}, snapshot {number} ({mark})",
        metadata={
            INVOICE_MARK: str(mark),
            PERIOD_MARK: str(invoice.period),
            "metering_customer": invoice.customer_id,
            "metering_snapshot": number,
        },
        billed_cents=invoice.billed_cents,
        lines=tuple(_wanted_lines(invoice.lines)),
    )


def mark_of(snapshot: Snapshot) -> Mark | None:
    """The mark that one of Stripe's invoices bears; None for what is not ours."""
    for text in (snapshot.metadata.get(INVOICE_MARK), snapshot.description):
        found = _MARK.search(text) if text else None
        if found is not None:
            return Mark(
                environment=found["environment"],
                invoice_id=found["invoice_id"],
                adjustment=int(found["number"] or 0),
            )
    return None


def _wanted_lines(lines: Sequence[InvoiceLine]) -> list[WantedLine]:
    """The lines with cents, as an invoice shows them; the smallest are put together when there are many."""
    billed = [line for line in lines if line.billed_cents]
    if len(billed) <= MAX_LINES:
        return [_wanted_line(line) for line in billed]
    by_size = sorted(billed, key=lambda line: (-abs(line.billed_cents), line.sum.line_key))
    kept = {line.sum.line_key for line in by_size[: MAX_LINES - 1]}
    rest = [line for line in billed if line.sum.line_key not in kept]
    return [
        *(_wanted_line(line) for line in billed if line.sum.line_key in kept),
        WantedLine(
            mark=_OTHER,
            amount=sum(line.billed_cents for line in rest),
            description=f"{len(rest)} further lines, as the snapshot lists them",
            starts_at=min(line.sum.starts_at for line in rest),
            ends_at=max(line.sum.ends_at for line in rest),
        ),
    ]


def _wanted_line(line: InvoiceLine) -> WantedLine:
    return WantedLine(
        mark=digest(line.sum.line_key),
        amount=line.billed_cents,
        description=describe(line)[:500],
        starts_at=line.sum.starts_at,
        ends_at=line.sum.ends_at,
    )
