"""invoice_lines, unbilled and drift: as the invoices, the entries and the reconciliations have it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.core.period import BillingPeriod
from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import UsageSource
from metering.ledger.entries import ManualKind
from metering.ledger.store.rollups import roll_up_totals
from metering.stripe.put_customer import put_customer
from metering.stripe.queries.reconciliations import drift_left
from metering.stripe.reconcile import reconcile
from tests.builders import NOVEMBER, Months, end, start
from tests.reporting.views import read
from tests.stripe.reconciling import CAPS, edit_line, invoice_of

OCTOBER = datetime(2026, 10, 20, 9, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 2, 9, tzinfo=UTC)

Sums = dict[tuple[str, str, str], Decimal]

# What is booked to months that have no invoice, entry by entry.
_ENTRIES = """
SELECT customer_id, period, kind, sum(usd_cents) FROM (
    SELECT customer_id, period, 'charge' AS kind, usd_cents FROM charges
    UNION ALL SELECT customer_id, period, 'adjustment', usd_cents FROM adjustments
    UNION ALL SELECT customer_id, period, kind, usd_cents FROM manual_adjustments) AS entries
WHERE NOT EXISTS (SELECT FROM billing_periods p
                  WHERE p.customer_id = entries.customer_id AND p.period >= entries.period)
GROUP BY 1, 2, 3 HAVING sum(usd_cents) <> 0
"""


def check_unbilled(months: Months) -> Sums:
    """The view says what the entries do, before and after rolling up; returns what it says of money."""
    for _ in ("pending", "rolled up"):
        rows = read(months.database, "SELECT * FROM unbilled")
        found = {(row["customer_id"], row["period"], row["kind"]): row["usd_cents"] for row in rows}
        assert len(found) == len(rows)
        booked = {key: cents for key, cents in found.items() if key[2] not in ("remainder", "backlog", "open")}
        assert booked == {key[:3]: key[3] for key in months.rows(_ENTRIES)}  # type: ignore[comparison-overlap]
        roll_up_totals(months.service.engine)
    return {key: cents for key, cents in found.items() if cents is not None}


def adjust(months: Months, cents: str, *, stream_id: str | None = None, now: datetime = NOVEMBER) -> None:
    adjust_manually(
        engine=months.service.engine,
        idempotency_key=f"{cents} {now}",
        customer_id="acme",
        stream_id=stream_id,
        kind=ManualKind.CREDIT if cents.startswith("-") else ManualKind.CORRECTION,
        usd_cents=Decimal(cents),
        reason="test",
        booked_by="test",
        now=now,
    )


def test_a_month_is_unbilled_until_it_has_its_invoice_and_then_what_that_left_over(months: Months) -> None:
    months.use("acme")
    assert check_unbilled(months) == {("acme", "2026-11", "charge"): Decimal("100.406")}
    months.close("2026-11")
    assert check_unbilled(months) == {("acme", "2026-11", "remainder"): Decimal("0.406")}


def test_what_is_unbilled_just_before_closing_is_what_the_invoice_says(months: Months) -> None:
    months.use("acme", at=OCTOBER)
    months.close("2026-10")
    months.use("acme", name="two")
    adjust(months, "-7.25")
    adjust(months, "1.5", stream_id="two")
    before = check_unbilled(months)
    assert {kind for _, _, kind in before} == {"charge", "credit", "correction", "remainder"}
    months.close("2026-11")
    invoice = months.invoices()[-1].invoice
    assert sum(before.values()) == invoice.exact_usd_cents + invoice.carried_in_usd_cents
    assert check_unbilled(months) == {("acme", "2026-11", "remainder"): invoice.remainder_usd_cents}


def test_deferred_months_stay_unbilled_as_a_whole(months: Months) -> None:
    months.use("acme", output=8_000)
    months.close("2026-11")
    assert check_unbilled(months) == {("acme", "2026-11", "remainder"): Decimal("20.406")}


def test_several_open_months_late_usage_and_adjustments_each_have_their_own_row(months: Months) -> None:
    put_customer(
        engine=months.service.engine,
        customer_id="kolkata",
        details=CustomerDetails(time_zone="Asia/Kolkata"),
        now=OCTOBER,
    )
    months.use("acme", at=OCTOBER)
    months.close("2026-10")
    months.use("acme", at=OCTOBER + timedelta(days=1), name="late")
    months.use("acme", name="november")
    months.use("acme", at=DECEMBER, name="december")
    months.use("kolkata", at=datetime(2026, 10, 31, 18, 45, tzinfo=UTC))
    months.receive([end("november", 50_000, usage_source=UsageSource.PROVIDER, time=NOVEMBER)], at=NOVEMBER)
    months.finalize(now=DECEMBER + timedelta(days=20))
    found = check_unbilled(months)
    assert {(customer, period, kind) for customer, period, kind in found} == {
        ("acme", "2026-10", "remainder"),
        ("acme", "2026-11", "charge"),
        ("acme", "2026-11", "adjustment"),
        ("acme", "2026-12", "charge"),
        ("kolkata", "2026-11", "charge"),
    }
    assert found["acme", "2026-11", "charge"] == 2 * Decimal("100.406")


def test_one_customer_and_one_month_can_be_asked_for(months: Months) -> None:
    months.use("acme")
    months.use("other")
    months.use("other", at=DECEMBER, name="december")
    rows = read(months.database, "SELECT usd FROM unbilled WHERE customer_id = 'other' AND period = '2026-12'")
    assert rows == [{"usd": Decimal("1.00406")}]


def test_streams_without_a_bill_are_counted_by_their_month_and_cost_nothing_yet(months: Months) -> None:
    months.use("acme", at=OCTOBER)
    months.close("2026-10")
    ended = NOVEMBER + timedelta(seconds=4)
    months.receive([start("unknown", model="nobody-knows"), end("unknown", time=ended)], at=NOVEMBER)
    months.receive([start("old", model="nobody-knows", time=OCTOBER), end("old", time=OCTOBER)], at=NOVEMBER)
    months.receive([start("running", time=NOVEMBER)], at=NOVEMBER)
    months.finalize(now=NOVEMBER + timedelta(minutes=1))
    query = "SELECT period, kind, stream_count, usd_cents FROM unbilled WHERE usd_cents IS NULL ORDER BY kind"
    assert [tuple(row.values()) for row in read(months.database, query)] == [
        ("2026-11", "backlog", 2, None),
        ("2026-11", "open", 1, None),
    ]


def test_the_lines_of_an_invoice_add_up_to_it(months: Months) -> None:
    months.use("acme", at=OCTOBER)
    months.close("2026-10")
    months.use("acme", name="two")
    adjust(months, "-7.25")
    months.close("2026-11")
    for stored in months.invoices():
        rows = read(months.database, f"SELECT * FROM invoice_lines WHERE number = '{stored.number}'")
        assert {row["line_key"] for row in rows} == {line.sum.line_key for line in stored.invoice.lines}
        assert sum(row["billed_cents"] for row in rows) == stored.invoice.billed_cents
        exact = stored.invoice.exact_usd_cents + stored.invoice.carried_in_usd_cents
        assert sum(row["usd_cents"] for row in rows) == exact == sum(row["usd"] for row in rows) * 100
        assert {row["push_state"] for row in rows} == {"pending"}
    query = (
        "SELECT kind, output_tokens, stream_count FROM invoice_lines WHERE period = '2026-11' AND kind = 'usage'"
    )
    assert [tuple(row.values()) for row in read(months.database, query)] == [("usage", 40_000, 1)]


def drift(months: Months) -> list[tuple[Any, ...]]:
    """(class, cents, still there), the oldest first; the metrics' sums agree."""
    rows = read(months.database, "SELECT * FROM drift ORDER BY started_at, finding")
    left: dict[str, list[int]] = {}
    for row in rows:
        assert row["drift_usd"] * 100 == row["drift_cents"]
        if row["still_there"]:
            left.setdefault(row["drift_class"], []).append(abs(row["drift_cents"]))
    with transaction(months.service.engine) as connection:
        told = {each.drift_class: (each.findings, each.cents) for each in drift_left(connection)}
    assert told == {drift_class: (len(cents), sum(cents)) for drift_class, cents in left.items()}
    return [(row["drift_class"], row["drift_cents"], row["still_there"]) for row in rows]


@pytest.mark.parametrize("scope", [None, "2026-11"])
def test_drift_is_there_until_a_reconciliation_no_longer_finds_it(months: Months, scope: str | None) -> None:
    months.month("acme")
    months.push_all()
    invoice = invoice_of(months)
    assert drift(months) == []
    edit_line(months, invoice, 120)
    look(months, scope)
    assert drift(months) == [("line", 20, True)]
    look(months, scope)
    assert drift(months) == [("line", 20, False), ("line", 20, True)]
    look(months, scope, repair=True)
    assert [there for _, _, there in drift(months)] == [False, False, False]
    look(months, None)
    assert [there for _, _, there in drift(months)] == [False, False, False]


def test_a_reconciliation_of_another_month_does_not_make_drift_go_away(months: Months) -> None:
    months.month("acme")
    months.push_all()
    edit_line(months, invoice_of(months), 120)
    look(months, None)
    look(months, "2026-10")
    assert drift(months) == [("line", 20, True)]


def look(months: Months, scope: str | None, *, repair: bool = False) -> None:
    period = None if scope is None else BillingPeriod.parse(scope)
    reconcile(pusher=months.pusher(), period=period, repair=repair, caps=CAPS, requested_by="test")
