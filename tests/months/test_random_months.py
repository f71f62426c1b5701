"""Random charges over many months, through the database: no cent is lost, and none is made.

`RANDOM_CHARGES=3000000 pytest tests/months/test_random_months.py` does the same with millions.
"""

import os
import random
from collections import Counter, defaultdict
from fractions import Fraction

import pytest

from metering.audit.queries.invoice_checks import INVOICE_CHECKS
from metering.audit.queries.rate_checks import RATE_CHECKS
from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.ledger.store.rollups import roll_up_totals
from metering.months.invoice import LineKind
from metering.months.line_rates import RateRow, rate_rows
from metering.months.queries.invoices import line_entries
from metering.months.queries.line_rates import kept_line_rates
from metering.months.store.invoices import StoredInvoice
from metering.server.bootstrap import Service
from tests.builders import Books
from tests.database import Database
from tests.months.random_months import Expected, RandomMonths
from tests.reporting.views import read

pytestmark = pytest.mark.long

CHARGES = int(os.environ.get("RANDOM_CHARGES", "12000"))
MONTHS = 14
SKIPPED = (4, 9)  # closed together with the month after


@pytest.mark.timeout(3600)
def test_over_many_months_of_random_bookings_each_invoice_is_what_the_contract_says(
    database: Database, service: Service
) -> None:
    books = Books(database, service)
    months = RandomMonths(books, random.Random(20261127), customers=90)
    months.add_customers()
    for place in range(MONTHS):
        months.book(place, CHARGES // MONTHS)
        for customer_id in months.random.sample(list(months.zones), k=3):
            months.move(customer_id)
        _check_unbilled(months)
        if place not in SKIPPED:
            months.close(place)

    grand_billed, remainders = 0, Fraction(0)
    for customer_id in months.zones:
        found = books.invoices(customer_id)
        assert [_facts(each) for each in found] == list(months.expected(customer_id))
        for each in found:
            _check_ties(each)
            months.reached |= _check_entries(books, each) | _check_rates(books, each)
        grand_billed += sum(each.invoice.billed_cents for each in found)
        remainders += Fraction(found[-1].invoice.remainder_usd_cents) if found else 0
    booked = sum(
        (Fraction(books.sum_of(table)) for table in ("charges", "adjustments", "manual_adjustments")), Fraction(0)
    )
    still_open = sum(months.open_amounts().values(), Fraction(0))
    _check_unbilled(months)
    assert grand_billed + remainders + still_open == booked
    _check_invariants(books)
    for kind in set(LineKind) - {LineKind.PREPAID}:  # see tests/credits/test_random_credits.py
        assert months.reached[f"a line of {kind}"] > 0, kind
    for what in (
        "late",
        "billed",
        "deferred",
        "adjustments",
        "adjustments below zero",
        "credit",
        "correction",
        "two open months",
        *(f"a row {per}" for per in UNITS),
        "a row Rounding of",
        "a row Completions",
    ):
        assert months.reached[what] > 0, what
    assert still_open != 0


def _check_unbilled(months: RandomMonths) -> None:
    """The view for finance's tools knows what is on no invoice, of every customer and month."""
    query = """SELECT customer_id, period, sum(usd_cents) AS usd_cents FROM unbilled WHERE kind <> 'remainder'
               GROUP BY customer_id, period HAVING sum(usd_cents) <> 0"""
    rows = read(months.books.database, query)
    found = {(row["customer_id"], row["period"]): Fraction(row["usd_cents"]) for row in rows}
    assert found == months.open_amounts()
    months.reached["two open months"] += len(found) > len({customer_id for customer_id, _ in found})
    roll_up_totals(months.books.service.engine)


def _facts(stored: StoredInvoice) -> Expected:
    invoice = stored.invoice
    return Expected(
        str(invoice.period),
        Fraction(invoice.exact_usd_cents),
        Fraction(invoice.carried_in_usd_cents),
        invoice.billed_cents,
        Fraction(invoice.remainder_usd_cents),
    )


def _check_ties(stored: StoredInvoice) -> None:
    """Lines sum to the invoice, in exact cents and in whole ones."""
    invoice = stored.invoice
    lines = sum((Fraction(line.sum.usd_cents) for line in invoice.lines), Fraction(0))
    assert lines == Fraction(invoice.exact_usd_cents) + Fraction(invoice.carried_in_usd_cents)
    assert sum(line.billed_cents for line in invoice.lines) == invoice.billed_cents


def _check_entries(books: Books, stored: StoredInvoice) -> Counter[str]:
    """The entries behind a line are those that it sums; counts the lines by kind."""
    kinds: Counter[str] = Counter()
    with transaction(books.service.engine) as connection:
        for line in stored.invoice.lines:
            found = line_entries(connection, closed=stored.closed, line=line, limit=1)
            kinds[f"a line of {line.sum.kind}"] += 1
            if found is not None:
                assert found.usd_cents == line.sum.usd_cents, line
                assert found.count >= len(found.entries) == 1
    return kinds


def _check_rates(books: Books, stored: StoredInvoice) -> Counter[str]:
    """The rows beneath a line are quantity x rate, and sum to it; counts what they are."""
    key = (stored.invoice.customer_id, stored.invoice.invoice_id)
    with transaction(books.service.engine) as connection:
        kept = kept_line_rates(connection, [key])[stored.invoice.invoice_id]
    reached: Counter[str] = Counter()
    for line in stored.invoice.lines:
        rows = rate_rows(kept.get(line.sum.line_key, ()))
        if line.sum.kind not in (LineKind.CREDIT, LineKind.CORRECTION, LineKind.CARRIED_IN):
            assert sum((Fraction(row.usd_cents) for row in rows), Fraction(0)) == Fraction(line.sum.usd_cents)
        for row in rows:
            assert _as_computed(row), row
            reached[f"a row {row.per or row.what[:11]}"] += 1
    return reached


UNITS = {"per 1M": 1_000_000, "per 1,000": 1_000, "per hour": 3_600}


def _as_computed(row: RateRow) -> bool:
    """Whether its amount is quantity x rate, as with paper and pencil; time to 12 decimals of a cent."""
    if row.usd is None or row.quantity is None:
        return True
    cents = Fraction(row.quantity) * Fraction(row.usd) * 100 / UNITS[row.per]
    return Fraction(row.usd_cents) == (round(cents, 12) if row.per == "per hour" else cents)


def _check_invariants(books: Books) -> None:
    begin, _ = BillingPeriod.parse("2025-01").in_any_zone
    _, end = BillingPeriod.parse("2027-12").in_any_zone
    found = defaultdict(list)
    with transaction(books.service.engine) as connection:
        for check in (*INVOICE_CHECKS, *RATE_CHECKS):
            found[check.__name__] += check(connection, begin, end)
    assert dict(found) == {check.__name__: [] for check in (*INVOICE_CHECKS, *RATE_CHECKS)}
