"""A month whose usage grants paid: exact charges, minus one prepaid line, then one rounding."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.months.invoice import LineKind, describe
from tests.builders import T0, Books
from tests.credits.scenes import COST, credit, give, rows, use
from tests.exports.files import csv_rows

DECEMBER = datetime(2026, 12, 5, tzinfo=UTC)


def lines(books: Books) -> dict[str, tuple[Decimal, int]]:
    (stored,) = books.invoices()
    return {line.sum.kind.value: (line.sum.usd_cents, line.billed_cents) for line in stored.invoice.lines}


def test_what_grants_paid_is_one_line_below_zero_and_the_rest_is_owed(books: Books) -> None:
    give(books, "150.25")
    use(books, output=40_000)
    use(books, "t", output=40_000)
    assert books.close("2026-11") == {}
    (stored,) = books.invoices()
    invoice = stored.invoice
    assert invoice.prepaid_usd_cents == Decimal("150.25")
    assert invoice.exact_usd_cents == rows(books, "SELECT sum(usd_cents) FROM charges")[0][0]
    due = invoice.exact_usd_cents - invoice.prepaid_usd_cents
    assert invoice.billed_cents + invoice.remainder_usd_cents == due
    assert invoice.billed_cents == int(due)
    assert lines(books)["prepaid"][0] == Decimal("-150.25")
    assert sum(billed for _, billed in lines(books).values()) == invoice.billed_cents
    prepaid = next(line for line in invoice.lines if line.sum.kind is LineKind.PREPAID)
    assert describe(prepaid) == "Paid from prepaid credit"
    assert books.audit(now=DECEMBER) == []


@pytest.mark.parametrize("amount", ["100000", "0.4985", "0.4984999", "0.498"])
def test_a_cent_of_rounding_never_makes_a_total_negative(books: Books, amount: str) -> None:
    give(books, amount)
    use(books)
    books.close("2026-11")
    (stored,) = books.invoices()
    assert stored.invoice.billed_cents == 0
    assert stored.invoice.remainder_usd_cents == COST - min(Decimal(amount), COST)
    assert all(line.billed_cents == 0 for line in stored.invoice.lines)
    assert books.audit(now=DECEMBER) == []


def test_an_adjustment_after_the_close_is_restored_in_its_own_month(books: Books) -> None:
    give(books, "1000")
    use(books, output=40_000)
    books.close("2026-11")
    credit(books, "-50.5", now=DECEMBER)
    books.close("2026-12", now=datetime(2027, 1, 3, tzinfo=UTC))
    first, second = books.invoices()
    assert (first.invoice.prepaid_usd_cents, first.invoice.billed_cents) == (first.invoice.exact_usd_cents, 0)
    assert (second.invoice.exact_usd_cents, second.invoice.prepaid_usd_cents) == (
        Decimal("-50.5"),
        Decimal("-50.5"),
    )
    assert (second.invoice.billed_cents, second.invoice.remainder_usd_cents) == (0, 0)
    assert books.audit(now=datetime(2027, 1, 3, tzinfo=UTC)) == []


def test_many_small_lines_share_the_cents_with_the_prepaid_line(books: Books) -> None:
    give(books, "33.333333")
    for number in range(7):
        model = "claude-opus-4.7" if number % 2 else "claude-haiku-4.5"
        use(books, f"s{number}", output=70_000 + number, model=model)
    books.close("2026-11")
    (stored,) = books.invoices()
    invoice = stored.invoice
    assert sum(line.billed_cents for line in invoice.lines) == invoice.billed_cents
    for line in invoice.lines:
        assert abs(line.sum.usd_cents - line.billed_cents) < 1
    assert 0 <= invoice.remainder_usd_cents < 1


def table(books: Books, kind: str) -> list[dict[str, str]]:
    return csv_rows(books.service.engine, kind)


@pytest.mark.parametrize("sold_before", [True, False])
def test_exports_sum_to_what_is_billed_and_show_the_sale_and_what_it_paid(books: Books, sold_before: bool) -> None:
    give(books, "100", paid=80, at=T0 - timedelta(days=40 if sold_before else 1))
    use(books, output=40_000)
    books.close("2026-11")
    (stored,) = books.invoices()
    billed = stored.invoice.billed_cents
    charges, invoice_lines, focus = (table(books, kind) for kind in ("charges", "invoice-lines", "focus"))
    assert sum(Decimal(row["cost_usd_cents"]) for row in charges) == billed
    assert [row["cost_usd_cents"] for row in charges if row["row_kind"] == "prepaid"] == ["-100"]
    assert sum(Decimal(row["billed_cents"]) for row in invoice_lines) == billed
    assert {row["invoice_prepaid_usd_cents"] for row in invoice_lines} == {"100"}
    of_invoice = [row for row in focus if row["InvoiceId"]]
    assert sum(Decimal(row["BilledCost"]) for row in of_invoice) == Decimal(billed) / 100
    purchases = [row for row in focus if row["ChargeCategory"] == "Purchase"]
    sales = [] if sold_before else [("0.8", "0")]
    assert [(row["BilledCost"], row["EffectiveCost"]) for row in purchases] == sales
    (prepaid,) = [row for row in focus if row["x_LineKind"] == "prepaid"]
    # All of a grant of $1 that cost 80 cents was used.
    assert (prepaid["BilledCost"], prepaid["EffectiveCost"]) == ("-1", "-0.2")
