"""A usage statement: the customer's document about an invoice, as text for every rendering.

Amounts are in dollars with all of their digits, so that a line that costs a fraction of a cent is never $0.00.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.core.money import EXACT
from metering.core.time_zones import shown_zone
from metering.months.invoice import InvoiceLine, describe
from metering.months.store.invoices import StoredInvoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The company that issues the statement; its address in lines."""

    name: str
    address: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRow:
    """A line: its description, exact amount and billed cents; `when` is empty unless it differs from the month."""

    what: str
    when: str
    exact: str
    billed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageStatement:
    """The text of a statement; `facts` and `sums` are pairs of name and value."""

    title: str
    issuer: Issuer
    customer: Sequence[str]
    facts: Sequence[tuple[str, str]]
    rows: Sequence[StatementRow]
    sums: Sequence[tuple[str, str]]
    total: tuple[str, str]
    notes: Sequence[str]


def usage_statement(
    *, stored: StoredInvoice, issuer: Issuer, customer_name: str | None, stripe_number: str | None
) -> UsageStatement:
    """The statement of an invoice."""
    invoice, closed = stored.invoice, stored.closed
    zone = shown_zone(closed.time_zone)
    customer = [customer_name, invoice.customer_id] if customer_name else [invoice.customer_id]
    facts = [
        ("Statement", stored.number),
        ("Period", f"{_day(closed.starts_at, zone)} to {_last_day(closed.ends_at, zone)} ({closed.time_zone})"),
        ("Created", _day(stored.created_at, zone)),
        ("Currency", "US dollars"),
    ]
    if stripe_number:
        facts.append(("Invoice", stripe_number))
    return UsageStatement(
        title="Usage statement",
        issuer=issuer,
        customer=customer,
        facts=facts,
        rows=[_row(line, zone, deferred=invoice.deferred) for line in invoice.lines],
        sums=[
            ("Usage, adjustments and credits", dollars(invoice.exact_usd_cents)),
            *_prepaid(invoice.prepaid_usd_cents),
            ("Carried over from the previous statement", dollars(invoice.carried_in_usd_cents)),
            ("Carried over to the next statement", dollars(EXACT.minus(invoice.remainder_usd_cents))),
        ],
        total=("Billed", dollars(Decimal(invoice.billed_cents))),
        notes=_notes(stored),
    )


def dollars(usd_cents: Decimal) -> str:
    """An amount in dollars with all of its digits, and at least two decimals.

    >>> dollars(Decimal("0.4985")), dollars(Decimal("-123456")), dollars(Decimal(0))
    ('$0.004985', '-$1,234.56', '$0.00')
    """
    amount = EXACT.normalize(EXACT.scaleb(usd_cents, -2))
    exponent = amount.as_tuple().exponent
    digits = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{'-' if amount < 0 else ''}${abs(amount):,.{digits}f}"


def _row(line: InvoiceLine, zone: ZoneInfo, *, deferred: bool) -> StatementRow:
    each = line.sum
    other_month = each.month is not None and each.stream_count > 0
    return StatementRow(
        what=describe(line),
        when=_span(each.starts_at, each.ends_at, zone) if other_month else "",
        exact=dollars(each.usd_cents),
        billed="" if deferred else dollars(Decimal(line.billed_cents)),
    )


def _prepaid(usd_cents: Decimal) -> list[tuple[str, str]]:
    return [("Paid from prepaid credit", dollars(EXACT.minus(usd_cents)))] if usd_cents else []


def _notes(stored: StoredInvoice) -> list[str]:
    invoice = stored.invoice
    rounding = (
        "Every completion is charged exactly, to fractions of a cent. The total is rounded down once to whole"
        " cents, which the lines share. The remainder is carried over to the next statement."
    )
    if invoice.deferred:
        minimum = dollars(Decimal(invoice.minimum_cents))
        rounding = (
            f"Amounts below {minimum} are not billed; the whole amount is carried over to the next statement."
        )
    proof = (
        f"Sum of {stored.closed.entry_count:,} entries, sealed with SHA-256 {stored.closed.seal.hex()}."
        " The receipt of a completion shows its tokens, rates and amounts."
    )
    return [rounding, proof]


def _day(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local.day} {local:%B %Y}"


def _last_day(end: datetime, zone: ZoneInfo) -> str:
    return _day(end - timedelta(microseconds=1), zone)


def _span(begin: datetime, end: datetime, zone: ZoneInfo) -> str:
    first, last = _day(begin, zone), _day(end, zone)
    return first if first == last else f"{first} to {last}"
