"""Random bookings over many months: each export of a month sums to its invoices, exactly, whatever was booked."""

from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import text

from metering.db.engine import transaction
from metering.months.store.invoices import StoredInvoice
from tests.exports.files import csv_rows, parquet_rows
from tests.exports.scene import MONTHS
from tests.months.random_months import RandomMonths

pytestmark = pytest.mark.long


def test_every_month_sums_to_its_invoices_and_to_their_lines(months: RandomMonths) -> None:
    engine = months.books.service.engine
    reached: Counter[str] = Counter()
    invoices = {
        each.invoice.invoice_id: each
        for customer_id in months.zones
        for each in months.books.invoices(customer_id)
    }
    periods = sorted({str(each.invoice.period) for each in invoices.values()})
    assert len(periods) >= MONTHS - 1
    for period in periods:
        of_month = {key: each for key, each in invoices.items() if str(each.invoice.period) == period}
        charges, focus, lines = (
            parquet_rows(engine, kind, period) for kind in ("charges", "focus", "invoice-lines")
        )
        check_charges(charges, of_month)
        check_focus(focus, of_month)
        check_lines(lines, of_month)
        reached.update(row["row_kind"] for row in charges)
        reached.update(row["x_LineKind"] for row in focus)
        reached.update(row["ChargeClass"] for row in focus if row["ChargeClass"])
        reached.update("deferred" for each in of_month.values() if each.invoice.deferred)
        reached.update("below zero" for each in of_month.values() if each.invoice.remainder_usd_cents < 0)
        reached.update("adjusted within the month" for row in charges if adjusted_within(row))
    for what in (
        *("charge", "adjustment", "credit", "correction", "carried_in", "remainder", "usage", "late_usage"),
        *("Correction", "deferred", "below zero", "adjusted within the month"),
    ):
        assert reached[what] > 0, what


def test_an_open_month_is_exact_usage_and_on_no_invoice(months: RandomMonths) -> None:
    engine = months.books.service.engine
    with transaction(engine) as connection:
        period = connection.execute(text("SELECT max(period) FROM invoices")).scalar_one()
    open_period = f"{period[:5]}{int(period[5:]) + 1:02d}"
    booked = sum((amounts[open_period] for amounts in months.amounts.values()), Fraction(0))
    charges, focus = (csv_rows(engine, kind, open_period) for kind in ("charges", "focus"))
    assert booked != 0
    assert sum(Fraction(row["cost_usd_cents"]) for row in charges) == booked
    assert sum(Fraction(row["BilledCost"]) for row in focus) * 100 == booked
    assert {row["invoice_id"] for row in charges} == {row["InvoiceId"] for row in focus} == {""}
    assert {row["InvoiceDetailId"] for row in focus} == {""}
    assert csv_rows(engine, "invoice-lines", open_period) == []


def adjusted_within(row: dict[str, Any]) -> bool:
    return bool(row["row_kind"] == "adjustment" and row["line_key"].startswith(("usage/", "late_usage/")))


def sums(rows: list[dict[str, Any]], by: tuple[str, ...], amount: str) -> dict[tuple[Any, ...], Fraction]:
    found: dict[tuple[Any, ...], Fraction] = defaultdict(Fraction)
    for row in rows:
        found[tuple(row[name] for name in by)] += Fraction(row[amount])
    return dict(found)


def line_sums(invoices: dict[str, StoredInvoice]) -> dict[tuple[str, str], Fraction]:
    """By invoice and line, exact cents; the remainder is on no line."""
    found = {
        (key, line.sum.line_key): Fraction(line.sum.usd_cents)
        for key, each in invoices.items()
        for line in each.invoice.lines
    }
    left = {(key, "remainder"): -Fraction(each.invoice.remainder_usd_cents) for key, each in invoices.items()}
    return {key: cents for key, cents in (found | left).items() if cents}


def check_charges(rows: list[dict[str, Any]], invoices: dict[str, StoredInvoice]) -> None:
    billed = sums(rows, ("invoice_id", "invoice_number", "customer_id"), "cost_usd_cents")
    assert billed == {
        (key, each.number, each.invoice.customer_id): each.invoice.billed_cents for key, each in invoices.items()
    }
    entries = [row for row in rows if row["row_kind"] not in ("carried_in", "remainder")]
    assert Counter(row["invoice_id"] for row in entries) == {
        key: each.closed.entry_count for key, each in invoices.items()
    }
    by_line = sums(rows, ("invoice_id", "line_key"), "cost_usd_cents")
    assert {key: cents for key, cents in by_line.items() if cents} == line_sums(invoices)


def check_focus(rows: list[dict[str, Any]], invoices: dict[str, StoredInvoice]) -> None:
    billed = sums(rows, ("InvoiceId", "x_InvoiceNumber", "BillingAccountId"), "BilledCost")
    assert {key: usd for key, usd in billed.items() if usd} == {
        (key, each.number, each.invoice.customer_id): Fraction(each.invoice.billed_cents, 100)
        for key, each in invoices.items()
        if each.invoice.billed_cents
    }
    by_line = sums(rows, ("InvoiceDetailId",), "BilledCost")
    assert {key: usd for key, usd in by_line.items() if usd} == {
        (f"{invoice_id}/{line_key}",): cents / 100 for (invoice_id, line_key), cents in line_sums(invoices).items()
    }


def check_lines(rows: list[dict[str, Any]], invoices: dict[str, StoredInvoice]) -> None:
    found = {
        (row["invoice_id"], row["line_key"]): (row["kind"], Fraction(row["exact_usd_cents"]), row["billed_cents"])
        for row in rows
    }
    assert found == {
        (key, line.sum.line_key): (line.sum.kind.value, Fraction(line.sum.usd_cents), line.billed_cents)
        for key, each in invoices.items()
        for line in each.invoice.lines
    }
    assert len(found) == len(rows)
