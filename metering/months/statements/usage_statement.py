"""A usage statement: the customer's document about an invoice, as text for every rendering.

Amounts are in dollars with all of their digits, so that a line that costs a fraction of a cent is never $0.00.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from metering.core.money import EXACT, decimals_of, dollars_text
from metering.core.time_zones import shown_zone
from metering.months.invoice import Invoice, InvoiceLine, LineKind, describe
from metering.months.line_rates import RateRow, RatesOfLines, quantity_text, rate_decimals, rate_rows
from metering.months.store.invoices import StoredInvoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The company that issues the statement; its address in lines."""

    name: str
    address: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RateText:
    """A row beneath a line: `quantity` x `rate` = `amount`; without a rate, each was priced by itself."""

    what: str
    quantity: str
    rate: str
    amount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRow:
    """A line: its description, exact amount and billed cents; `when` is empty unless it differs from the month."""

    what: str
    when: str
    exact: str
    billed: str
    rates: Sequence[RateText] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageStatement:
    """The text of a statement; `facts` are pairs of name and value.

    `rounding` says how the exact sum of the lines becomes whole cents: name, exact amount, whole cents. `total` is
    what is billed.
    """

    title: str
    issuer: Issuer
    customer: Sequence[str]
    facts: Sequence[tuple[str, str]]
    rows: Sequence[StatementRow]
    rounding: Sequence[tuple[str, str, str]]
    total: tuple[str, str]
    notes: Sequence[str]


def usage_statement(
    *,
    stored: StoredInvoice,
    rates: RatesOfLines,
    issuer: Issuer,
    customer_name: str | None,
    customer_address: Sequence[str] = (),
    stripe_number: str | None,
) -> UsageStatement:
    """The statement of an invoice. Exact amounts have the same number of decimals, all that any of them needs.

    `customer_address` are the lines below the customer's name.
    """
    invoice, closed = stored.invoice, stored.closed
    zone = shown_zone(closed.time_zone)
    customer = [*([customer_name] if customer_name else []), *customer_address, invoice.customer_id]
    facts = [
        ("Statement", stored.number),
        ("Period", f"{_day(closed.starts_at, zone)} to {_last_day(closed.ends_at, zone)} ({closed.time_zone})"),
        ("Created", _day(stored.created_at, zone)),
        ("Currency", "US dollars"),
    ]
    if stripe_number:
        facts.append(("Invoice", stripe_number))
    rows = {key: rate_rows(found) for key, found in rates.items()}
    amounts = [line.sum.usd_cents for line in invoice.lines]
    amounts += [row.usd_cents for found in rows.values() for row in found]
    exact = _Exact(
        decimals_of([*amounts, invoice.remainder_usd_cents]),
        rate_decimals(row for found in rows.values() for row in found),
    )
    return UsageStatement(
        title="Usage statement",
        issuer=issuer,
        customer=customer,
        facts=facts,
        rows=[
            _row(line, rows.get(line.sum.line_key, ()), exact, zone, deferred=invoice.deferred)
            for line in invoice.lines
            if line.sum.kind is not LineKind.CARRIED_IN
        ],
        rounding=_rounding(invoice, exact),
        total=("Billed", dollars_text(Decimal(invoice.billed_cents))),
        notes=_notes(stored),
    )


@dataclass(frozen=True, slots=True)
class _Exact:
    """The decimals of exact amounts, and of rates."""

    decimals: int
    of_rates: int

    def text(self, usd_cents: Decimal) -> str:
        return dollars_text(usd_cents, decimals=self.decimals)


def _rounding(invoice: Invoice, exact: _Exact) -> list[tuple[str, str, str]]:
    carried = next((line for line in invoice.lines if line.sum.kind is LineKind.CARRIED_IN), None)
    steps = [("Usage, adjustments and credits", exact.text(invoice.exact_usd_cents), "")]
    if carried is not None:
        shared = "" if invoice.deferred else dollars_text(Decimal(carried.billed_cents))
        steps.append((describe(carried), exact.text(carried.sum.usd_cents), shared))
    if invoice.prepaid_usd_cents:
        steps.append(("Paid from prepaid credit", exact.text(EXACT.minus(invoice.prepaid_usd_cents)), ""))
    if carried is not None or invoice.prepaid_usd_cents:
        steps.append(("Exact total", exact.text(invoice.total_usd_cents), ""))
    billed = Decimal(invoice.billed_cents)
    how = "Below the minimum: not billed" if invoice.deferred else "Rounded down once, to whole cents"
    steps.append((how, exact.text(billed), ""))
    steps.append(("Carried over to the next statement", exact.text(invoice.remainder_usd_cents), ""))
    return steps


def _row(
    line: InvoiceLine, rates: Sequence[RateRow], exact: _Exact, zone: ZoneInfo, *, deferred: bool
) -> StatementRow:
    each = line.sum
    other_month = each.month is not None and each.stream_count > 0
    return StatementRow(
        what=describe(line),
        when=_span(each.starts_at, each.ends_at, zone) if other_month else "",
        exact=exact.text(each.usd_cents),
        billed="" if deferred else dollars_text(Decimal(line.billed_cents)),
        rates=[
            RateText(
                rate.what,
                "" if rate.quantity is None else quantity_text(rate.quantity),
                rate.rate(exact.of_rates),
                exact.text(rate.usd_cents),
            )
            for rate in rates
        ],
    )


def _notes(stored: StoredInvoice) -> list[str]:
    invoice = stored.invoice
    rounding = (
        "Every completion is charged exactly, to fractions of a cent. Beneath a line, quantity x rate is the"
        " amount of each kind of usage; cached input is not among its input tokens. The total is rounded down"
        " once to whole cents, which the lines share."
    )
    if invoice.deferred:
        minimum = dollars_text(Decimal(invoice.minimum_cents))
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
