"""Invoices over random months in sequence: no fraction of a cent is lost or made, and every figure ties."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.core.period import BillingPeriod
from metering.months.invoice import ClosedPeriod, Invoice, LineKind, LineSum, Previous, make_invoice

T0 = datetime(2026, 10, 1, tzinfo=UTC)

# Sub-cent and large, of either sign: credits can exceed what was used.
AMOUNTS = st.one_of(
    st.decimals(min_value=0, max_value=3, places=9),
    st.decimals(min_value=0, max_value=10**9, places=6),
    st.decimals(min_value=-60, max_value=200, places=12),
    st.sampled_from([Decimal(0), Decimal("0.5"), Decimal("49.999999999999"), Decimal(50), Decimal("1E-18")]),
)
LINES = st.lists(st.tuples(st.sampled_from(list(LineKind)[:5]), AMOUNTS), max_size=12)
MONTHS = st.lists(st.tuples(LINES, st.sampled_from([0, 1, 50, 50, 50, 500])), min_size=1, max_size=8)


def sums_of(lines: Sequence[tuple[LineKind, Decimal]]) -> list[LineSum]:
    return [
        LineSum(kind=kind, usd_cents=amount, starts_at=T0, ends_at=T0, provider="p/%", model=f"m{number}")
        for number, (kind, amount) in enumerate(lines)
    ]


def invoices_of(months: Sequence[tuple[Sequence[tuple[LineKind, Decimal]], int]]) -> list[Invoice]:
    period, previous, made = BillingPeriod(2026, 1), None, []
    for lines, minimum in months:
        closed = ClosedPeriod(
            customer_id="acme",
            period=period,
            time_zone="UTC",
            starts_at=T0,
            ends_at=T0,
            closed_at=T0,
            closed_by="test",
            force_reason=None,
            entry_count=len(lines),
            seal=b"",
        )
        invoice = make_invoice(
            closed=closed,
            sums=sums_of(lines),
            previous=previous,
            minimum_cents=minimum,
        )
        made.append(invoice)
        previous = Previous(
            invoice_id=invoice.invoice_id, remainder_usd_cents=invoice.remainder_usd_cents, period=period
        )
        period = period.next
    return made


@settings(max_examples=400, deadline=None)
@given(MONTHS)
def test_over_any_run_of_months_what_is_billed_and_what_remains_is_exactly_what_was_used(
    months: list[tuple[list[tuple[LineKind, Decimal]], int]],
) -> None:
    invoices = invoices_of(months)
    used = sum((Fraction(amount) for lines, _ in months for _, amount in lines), Fraction(0))
    billed = sum(invoice.billed_cents for invoice in invoices)
    assert billed + Fraction(invoices[-1].remainder_usd_cents) == used


@settings(max_examples=400, deadline=None)
@given(MONTHS)
def test_each_invoice_ties(months: list[tuple[list[tuple[LineKind, Decimal]], int]]) -> None:
    for invoice, (lines, minimum) in zip(invoices_of(months), months, strict=True):
        total = Fraction(invoice.exact_usd_cents) + Fraction(invoice.carried_in_usd_cents)
        assert Fraction(invoice.exact_usd_cents) == sum((Fraction(amount) for _, amount in lines), Fraction(0))
        assert sum((Fraction(line.sum.usd_cents) for line in invoice.lines), Fraction(0)) == total
        assert sum(line.billed_cents for line in invoice.lines) == invoice.billed_cents
        assert invoice.billed_cents + Fraction(invoice.remainder_usd_cents) == total
        assert len({line.sum.line_key for line in invoice.lines}) == len(invoice.lines)
        if invoice.deferred:
            assert total < max(minimum, 1)
        else:
            assert invoice.billed_cents == total // 1 >= minimum
            assert 0 <= invoice.remainder_usd_cents < 1
            assert all(abs(line.billed_cents - Fraction(line.sum.usd_cents)) < 1 for line in invoice.lines)


@settings(max_examples=200, deadline=None)
@given(LINES.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_the_sums_changes_nothing(lines: list[tuple[LineKind, Decimal]], random: object) -> None:
    shuffled = list(enumerate(lines))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    (one,) = invoices_of([(lines, 0)])
    sums = sums_of(lines)
    closed = ClosedPeriod(
        customer_id="acme", period=one.period, time_zone="UTC", starts_at=T0, ends_at=T0, closed_at=T0,
        closed_by="test", force_reason=None, entry_count=0, seal=b"",
    )  # fmt: skip
    other = make_invoice(
        closed=closed,
        sums=[sums[place] for place, _ in shuffled],
        previous=None,
        minimum_cents=0,
    )
    assert other == one
