"""Invoices over random months in sequence: no fraction of a cent is lost or made, and every figure ties."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.core.period import BillingPeriod
from metering.months.invoice import (
    ClosedPeriod,
    Invoice,
    InvoiceLine,
    LineKind,
    LineSum,
    Previous,
    describe,
    invoice_id_of,
    make_invoice,
    share_cents,
)

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


def usage_of(**amounts: str) -> list[LineSum]:
    """Lines of usage, by model."""
    return [
        LineSum(kind=LineKind.USAGE, usd_cents=Decimal(cents), starts_at=T0, ends_at=T0, provider="p", model=model)
        for model, cents in amounts.items()
    ]


@pytest.mark.parametrize(
    ("amounts", "shared"),
    [
        ({"a": "1.2", "b": "1.9", "c": "1.9"}, {"a": 1, "b": 2, "c": 2}),  # 5.0: two cents for the largest parts
        ({"a": "1.2", "b": "1.1", "c": "1.9"}, {"a": 1, "b": 1, "c": 2}),  # 4.2: the one cent is not the first's
        ({"b": "0.5", "a": "0.5"}, {"a": 1, "b": 0}),  # a tie is the lesser key's
        ({"c": "0.4", "b": "0.4", "a": "0.4"}, {"a": 1, "b": 0, "c": 0}),
        ({"a": "10.9", "b": "-0.9"}, {"a": 11, "b": -1}),  # a part of -0.9 is 0.1 above -1
        ({"a": "3.0", "b": "2"}, {"a": 3, "b": 2}),
    ],
)
def test_the_cents_that_are_left_go_to_the_lines_that_lost_most_ties_to_the_lesser_key(
    amounts: dict[str, str], shared: dict[str, int]
) -> None:
    total = int(sum(map(Fraction, amounts.values())) // 1)
    found = share_cents(usage_of(**amounts), total=total)
    assert found == {f"usage/p/{model}": cents for model, cents in shared.items()}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.decimals(min_value=-5, max_value=20, places=3), min_size=1, max_size=9))
def test_no_line_gets_a_cent_before_one_that_lost_more(amounts: list[Decimal]) -> None:
    lines = usage_of(**{f"m{place}": str(amount) for place, amount in enumerate(amounts)})
    total = int(sum(map(Fraction, amounts), Fraction(0)) // 1)
    shared = share_cents(lines, total=total)
    assert sum(shared.values()) == total
    lost = {line.line_key: Fraction(line.usd_cents) % 1 for line in lines}
    raised = {line.line_key: shared[line.line_key] > Fraction(line.usd_cents) // 1 for line in lines}
    order = sorted(lost, key=lambda key: (-lost[key], key))
    assert [raised[key] for key in order] == sorted(raised.values(), reverse=True)


def test_what_a_line_is_for_is_its_key_and_keys_do_not_run_into_each_other() -> None:
    (plain,) = usage_of(m="1")
    slash = LineSum(kind=LineKind.USAGE, usd_cents=Decimal(1), starts_at=T0, ends_at=T0, provider="p/m", model="x")
    other = LineSum(kind=LineKind.USAGE, usd_cents=Decimal(1), starts_at=T0, ends_at=T0, provider="p", model="m/x")
    assert plain.line_key == "usage/p/m"
    assert slash.line_key != other.line_key


def test_an_invoice_is_known_by_its_customer_and_month() -> None:
    october, november = BillingPeriod(2026, 10), BillingPeriod(2026, 11)
    ids = {invoice_id_of(customer_id=name, period=month) for name in "ab" for month in (october, november)}
    assert len(ids) == 4
    assert all(each.startswith("inv_") for each in ids)


def test_below_the_minimum_nothing_is_billed_and_all_of_it_is_carried_over() -> None:
    first, second = invoices_of(
        [([(LineKind.USAGE, Decimal("49.99"))], 50), ([(LineKind.USAGE, Decimal("0.02"))], 50)]
    )
    assert (first.billed_cents, first.deferred, first.remainder_usd_cents) == (0, True, Decimal("49.99"))
    assert (second.billed_cents, second.remainder_usd_cents) == (50, Decimal("0.01"))
    assert [line.sum.kind for line in second.lines] == [LineKind.USAGE, LineKind.CARRIED_IN]
    assert second.previous_invoice_id == first.invoice_id


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": LineKind.USAGE, "stream_count": 1}, "m (p): 1 completion, 0 input and 0 output tokens"),
        ({"kind": LineKind.LATE_USAGE, "month": "2026-10", "stream_count": 1_204},
         "Late usage of 2026-10, m (p): 1,204 completions, 0 input and 0 output tokens"),
        ({"kind": LineKind.ADJUSTMENT, "month": "2026-10", "stream_count": 2},
         "Adjustments to 2026-10, m (p): 2 completions"),
        ({"kind": LineKind.CREDIT, "reason": "an outage"}, "Credit: an outage"),
        ({"kind": LineKind.CORRECTION, "reason": "a mistake"}, "Correction: a mistake"),
        ({"kind": LineKind.CARRIED_IN, "month": "2026-10"}, "Carried over from 2026-10"),
    ],
)  # fmt: skip
def test_a_line_says_in_words_what_it_is_for(changes: dict[str, object], text: str) -> None:
    given = {"usd_cents": Decimal(1), "starts_at": T0, "ends_at": T0, "provider": "p", "model": "m", **changes}
    assert describe(InvoiceLine(sum=LineSum(**given), billed_cents=1)) == text  # type: ignore[arg-type]
