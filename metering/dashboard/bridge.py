"""From a month's final cost to what its invoices bill: a table whose parts add up, each with a link."""

from dataclasses import replace
from decimal import Decimal

from metering.core.money import EXACT
from metering.customers.queries.month_bounds import BillingMonths
from metering.dashboard.links import link
from metering.dashboard.month_totals import cost
from metering.dashboard.months import Month
from metering.dashboard.page_request import PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.months.queries.invoices import invoiced
from metering.totals.queries.question import TotalsQuestion
from metering.totals.queries.totals import read_totals


def bridge(request: PageRequest, month: Month, *, customer_id: str | None, final: Decimal) -> Table | None:
    """The table; None while the month has no invoice, and for days.

    `final` is the month's final cost on the page, in cents.
    """
    if month.picked:
        return None
    bills = invoiced(request.connection, period=str(month.period), customer_id=customer_id)
    if not bills.count:
        return None
    question = TotalsQuestion(
        from_=month.range_[0], to=month.range_[1], customer_id=customer_id, months=month.billing, counters=False
    )
    if month.is_by_utc:
        question = replace(question, months=BillingMonths(period=month.period))
    whole = cost(read_totals(request.connection, question=question))
    of_invoiced = cost(read_totals(request.connection, question=replace(question, invoiced=month.period)))
    invoices = link("invoices", month=str(month.period), customer_id=customer_id)
    parts = [
        ("Final cost of the month", final, month.streams(customer_id=customer_id)),
        ("Hours of time zones other than UTC", EXACT.subtract(whole, final), None),
        ("Not invoiced yet", EXACT.subtract(of_invoiced, whole), link("customers", month=str(month.period))),
        ("Late usage, adjustments and credits of other months", EXACT.subtract(bills.exact_usd_cents, of_invoiced),
         invoices),
        ("Paid from prepaid credit", EXACT.minus(bills.prepaid_usd_cents), invoices),
        ("Carried from earlier invoices", bills.carried_in_usd_cents, invoices),
        ("Carried to later invoices", EXACT.minus(bills.remainder_usd_cents), invoices),
    ]  # fmt: skip
    return Table(
        fixed=True,
        name="bridge",
        title="From final to invoiced",
        columns=[Column("part", "Part"), Column("amount", "Amount", Kind.EXACT_MONEY)],
        rows=[_row(*part) for part in parts if part[1] or part is parts[0]],
        total={"part": Cell("Invoiced", invoices), "amount": Decimal(bills.billed_cents)},
        empty="",
        note="Usage that ended in the month and was booked after its invoice is on a later one.",
    )


def _row(part: str, amount: Decimal, href: str | None) -> Row:
    return {"part": Cell(part, href), "amount": amount}
