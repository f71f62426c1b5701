"""An invoice: the entries of a closed month summed by line. Money is rounded here and nowhere else.

Entries are charges, adjustments, credits and corrections; `LineKind` says which line sums which. The total of an
invoice is rounded once, down to whole cents, and the lines share it. No line is rounded by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum

from metering.core.ids import digest
from metering.core.money import EXACT, ZERO, sum_cents
from metering.core.period import BillingPeriod
from metering.events.usage import Usage


class LineKind(StrEnum):
    """What a line sums, in the order in which an invoice shows the lines.

    `USAGE`: streams of the month, by model, with the adjustments booked to them before it closed.
    `LATE_USAGE`: the same for streams that ended in an earlier month and were booked after it closed; by month and
    model.
    `ADJUSTMENT`: changes of charges on an earlier invoice; by month and model.
    `CREDIT`, `CORRECTION`: manual adjustments, each a line of its own.
    `PREPAID`: what grants paid of the month; below zero.
    `CARRIED_IN`: the remainder of the invoice before.
    """

    USAGE = "usage"
    LATE_USAGE = "late_usage"
    ADJUSTMENT = "adjustment"
    CREDIT = "credit"
    CORRECTION = "correction"
    PREPAID = "prepaid"
    CARRIED_IN = "carried_in"


_ORDER = {kind: place for place, kind in enumerate(LineKind)}
NO_USAGE = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSum:
    """The exact sum of the entries of one line, in cents.

    `month` is the month of the streams where it is not the invoice's, and the month that a carried-in remainder
    comes from.
    """

    kind: LineKind
    usd_cents: Decimal
    starts_at: datetime
    ends_at: datetime
    provider: str | None = None
    model: str | None = None
    month: str | None = None
    adjustment_id: str | None = None
    reason: str | None = None
    stream_count: int = 0
    usage: Usage = NO_USAGE

    @property
    def line_key(self) -> str:
        """Identifies the line within its invoice, and breaks ties when cents are shared among lines."""
        return line_key_of(
            kind=self.kind,
            month=self.month,
            provider=self.provider,
            model=self.model,
            adjustment_id=self.adjustment_id,
        )


def line_key_of(
    *, kind: LineKind, month: str | None, provider: str | None, model: str | None, adjustment_id: str | None
) -> str:
    """The key of the line that sums an entry with these values."""
    parts = (kind.value, month, provider, model, adjustment_id)
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts if part is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """A line: its exact sum, and its share of the whole cents that the invoice bills."""

    sum: LineSum
    billed_cents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedPeriod:
    """A closed month of a customer: its bounds, half-open, in the customer's time zone at closing, and its seal.

    `seal` is a hash over all entries of the month (`months/queries/entries.py` says how). `force_reason` says why
    it was closed while streams of it could still settle; None when it was not forced.
    """

    customer_id: str
    period: BillingPeriod
    time_zone: str
    starts_at: datetime
    ends_at: datetime
    closed_at: datetime
    closed_by: str
    force_reason: str | None
    entry_count: int
    seal: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What a customer owes for a closed month, in exact cents and in whole cents.

    `exact` is the sum of the month's entries, `prepaid` what grants paid of them. The lines sum to `exact +
    carried_in - prepaid`, their billed cents to `billed`, and `billed + remainder` is that sum. The remainder is
    below one cent, or the whole total when that is below the minimum (`deferred`).
    """

    invoice_id: str
    customer_id: str
    period: BillingPeriod
    previous_invoice_id: str | None
    exact_usd_cents: Decimal
    carried_in_usd_cents: Decimal
    billed_cents: int
    remainder_usd_cents: Decimal
    minimum_cents: int
    prepaid_usd_cents: Decimal = ZERO
    lines: tuple[InvoiceLine, ...]

    @property
    def total_usd_cents(self) -> Decimal:
        """What the lines sum to: the entries, what was carried in, minus what grants paid; exact."""
        return EXACT.subtract(EXACT.add(self.exact_usd_cents, self.carried_in_usd_cents), self.prepaid_usd_cents)

    @property
    def deferred(self) -> bool:
        """Whether nothing is billed and the whole total is carried to the next invoice."""
        return self.billed_cents == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The customer's previous invoice and its remainder, in exact cents."""

    invoice_id: str
    remainder_usd_cents: Decimal
    period: BillingPeriod


def invoice_id_of(*, customer_id: str, period: BillingPeriod) -> str:
    """The invoice id, derived from the customer and the month."""
    return f"inv_{digest(customer_id, str(period))}"


def make_invoice(
    *,
    closed: ClosedPeriod,
    sums: Sequence[LineSum],
    previous: Previous | None,
    minimum_cents: int,
) -> Invoice:
    """The invoice of a closed month, rounded once, with the remainder of the previous invoice.

    A total below `minimum_cents`, or below one cent, is not billed: the payment provider would not collect it.
    """
    exact = sum_cents(each.usd_cents for each in sums if each.kind is not LineKind.PREPAID)
    prepaid = EXACT.minus(sum_cents(each.usd_cents for each in sums if each.kind is LineKind.PREPAID))
    carried_in = previous.remainder_usd_cents if previous else ZERO
    all_sums = [*sums, _carried_in_line(closed, previous)] if previous and carried_in else list(sums)
    total = EXACT.subtract(EXACT.add(exact, carried_in), prepaid)
    whole = floor_cents(total)
    billed = whole if whole >= max(minimum_cents, 1) else 0
    cents = share_cents(all_sums, total=billed) if billed else {each.line_key: 0 for each in all_sums}
    lines = [InvoiceLine(sum=each, billed_cents=cents[each.line_key]) for each in all_sums]
    return Invoice(
        invoice_id=invoice_id_of(customer_id=closed.customer_id, period=closed.period),
        customer_id=closed.customer_id,
        period=closed.period,
        previous_invoice_id=previous.invoice_id if previous else None,
        exact_usd_cents=exact,
        carried_in_usd_cents=carried_in,
        billed_cents=billed,
        remainder_usd_cents=EXACT.subtract(total, Decimal(billed)),
        minimum_cents=minimum_cents,
        prepaid_usd_cents=prepaid,
        lines=tuple(in_order(lines)),
    )


def floor_cents(amount: Decimal) -> int:
    """Whole cents, rounded down.

    >>> floor_cents(Decimal("12.999")), floor_cents(Decimal("-0.1"))
    (12, -1)
    """
    return int(amount.to_integral_value(rounding=ROUND_FLOOR))


def share_cents(sums: Sequence[LineSum], *, total: int) -> dict[str, int]:
    """Whole cents by line key that add up to `total`, the sum of the lines rounded down.

    Uses the largest remainder: each line is rounded down, and the cents that are left go to the lines with the
    largest fractions; ties go to the lesser key.
    """
    cents = {each.line_key: floor_cents(each.usd_cents) for each in sums}
    left = total - sum(cents.values())
    by_loss = sorted(sums, key=lambda each: (-_fraction(each.usd_cents), each.line_key))
    for each in by_loss[:left]:
        cents[each.line_key] += 1
    return cents


def _fraction(amount: Decimal) -> Decimal:
    return EXACT.subtract(amount, Decimal(floor_cents(amount)))


def in_order(lines: Sequence[InvoiceLine]) -> list[InvoiceLine]:
    """The lines in the order an invoice shows them: by kind, then the larger amount first."""
    return sorted(lines, key=lambda each: (_ORDER[each.sum.kind], -each.sum.usd_cents, each.sum.line_key))


def _carried_in_line(closed: ClosedPeriod, previous: Previous) -> LineSum:
    return LineSum(
        kind=LineKind.CARRIED_IN,
        usd_cents=previous.remainder_usd_cents,
        starts_at=closed.starts_at,
        ends_at=closed.ends_at,
        month=str(previous.period),
    )


def describe(line: InvoiceLine) -> str:
    """A line in words, such as
    `claude-opus-4.7 (anthropic): 1,204 completions, 980,112 input and 44,370 output tokens`.
    """
    each = line.sum
    model = f"{each.model} ({each.provider})"
    match each.kind:
        case LineKind.USAGE:
            return f"{model}: {_quantities(line)}"
        case LineKind.LATE_USAGE:
            return f"Late usage of {each.month}, {model}: {_quantities(line)}"
        case LineKind.ADJUSTMENT:
            return f"Adjustments to {each.month}, {model}: {_count(each.stream_count, 'completion')}"
        case LineKind.CREDIT:
            return f"Credit: {each.reason}"
        case LineKind.CORRECTION:
            return f"Correction: {each.reason}"
        case LineKind.PREPAID:
            return "Paid from prepaid credit"
        case LineKind.CARRIED_IN:
            return f"Carried over from {each.month}"


def _quantities(line: InvoiceLine) -> str:
    known = line.sum.usage.known()
    tokens = f"{known.get('input_tokens', 0):,} input and {known.get('output_tokens', 0):,} output tokens"
    return f"{_count(line.sum.stream_count, 'completion')}, {tokens}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
