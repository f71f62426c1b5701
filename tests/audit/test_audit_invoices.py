"""The audit of closed months finds every manual change in them, and faults of the queries that closed them."""

import pytest
from sqlalchemy import text

from metering.ledger.store.charges import CHARGE_COLUMNS
from metering.months.queries import entries, line_rates
from tests.audit.planting import WITHOUT_TRIGGERS, Planting


@pytest.fixture
def closed(planting: Planting) -> Planting:
    """Books whose November is closed and invoiced."""
    assert planting.books.close("2026-11", force_reason="for the audit") == {}
    (stored,) = planting.books.invoices()
    assert len(stored.invoice.lines) > 3
    return planting


def test_a_closed_month_agrees(closed: Planting) -> None:
    assert closed.audit() == []


def test_later_months_with_late_usage_and_what_was_carried_agree(closed: Planting) -> None:
    assert closed.books.close("2026-12", force_reason="for the audit") == {}
    assert closed.audit() == []


_SMUGGLED = ["'smuggled'" if name == "stream_id" else name for name in CHARGE_COLUMNS]
PLANTED = [
    ("UPDATE billing_periods SET seal = sha256('x')", "billing_periods", "seal"),
    ("UPDATE billing_periods SET entry_count = entry_count + 1", "billing_periods", "entry_count"),
    ("UPDATE invoice_lines SET usd_cents = usd_cents + 0.1 WHERE kind = 'usage'", "invoice_lines", "usd_cents"),
    ("UPDATE invoice_lines SET stream_count = 0 WHERE kind = 'usage'", "invoice_lines", "stream_count"),
    ("UPDATE invoice_lines SET usage = '{}' WHERE kind = 'usage'", "invoice_lines", "usage"),
    ("UPDATE invoice_lines SET reason = 'other' WHERE kind = 'credit'", "invoice_lines", "reason"),
    ("DELETE FROM invoice_lines WHERE kind = 'credit'", "invoice_lines", "is missing"),
    (
        "UPDATE invoice_lines SET model = 'x' WHERE line_key = (SELECT max(line_key) FROM invoice_lines)",
        "invoice_lines",
        "no entry belongs",
    ),
    (
        "UPDATE invoices SET exact_usd_cents = exact_usd_cents + 1, remainder_usd_cents = remainder_usd_cents + 1",
        "invoices",
        "exact_usd_cents",
    ),
    ("UPDATE invoices SET minimum_cents = 0", "invoices", "billed_cents"),
    ("UPDATE invoices SET number = '2026-11-000002'", "invoices", "number"),
    ("UPDATE invoice_line_rates SET quantity = quantity + 1", "invoice_line_rates", "quantity"),
    (
        "UPDATE invoice_line_rates SET usd_per_million = usd_per_million + 1 WHERE usd_per_million > 0",
        "invoice_line_rates",
        "no bill has this rate",
    ),
    ("UPDATE invoice_line_rates SET usd_cents = usd_cents + 1", "invoice_line_rates", "line"),
    ("DELETE FROM invoice_line_rates WHERE kind = 'output'", "invoice_line_rates", "is missing"),
    ("DELETE FROM invoice_pushes", "invoices", "no push"),
    ("UPDATE customers SET closed_through = '2026-01'", "customers", "closed_through"),
    # Swapped between two charges: no sum shows it, the seal does.
    (
        "UPDATE charges SET charge_id = CASE stream_id WHEN 'gone' THEN 'ch_1' ELSE 'ch_2' END"
        " WHERE stream_id IN ('gone', 'completed')",
        "billing_periods",
        "seal",
    ),
    (
        f"{WITHOUT_TRIGGERS}INSERT INTO charges ({', '.join(CHARGE_COLUMNS)})"
        f" SELECT {', '.join(_SMUGGLED)} FROM charges WHERE stream_id = 'completed'",
        "billing_periods",
        "entry_count",
    ),
]


@pytest.mark.parametrize(("statement", "table", "says"), PLANTED, ids=lambda value: value[:60])
def test_a_change_by_hand_is_found(closed: Planting, statement: str, table: str, says: str) -> None:
    closed.plant(statement)
    assert [what for what in closed.audit() if what[0] == table and says in what[2]]


# What is wrong in the sums alone, closing a month refuses; these are wrong in the sums and in the seals alike.
FAULTS = [
    ("ON e.customer_id", "ON e.outcome IS DISTINCT FROM 'cancelled' AND e.customer_id", "invoices", "exact_usd"),
    (
        "ON e.customer_id",
        "ON e.reason IS DISTINCT FROM 'goodwill' AND e.customer_id",
        "invoice_lines",
        "is missing",
    ),
    ("count(*) AS stream_count", "2 * count(*) AS stream_count", "invoice_lines", "stream_count"),
    ("FILTER (WHERE last)", "FILTER (WHERE false)", "invoice_lines", "usage"),
    ("e.entry_id AS id", "e.stream_id AS id", "billing_periods", "seal"),
    ("sum(bill.sign * coalesce(l.quantity, 1))", "sum(coalesce(l.quantity, 1))", "invoice_line_rates", "quantity"),
    ("sum(coalesce(l.quantity, 1))", "count(*)", "invoice_line_rates", "quantity"),
]


@pytest.mark.parametrize(("right", "wrong", "table", "says"), FAULTS, ids=lambda value: value[:40])
def test_a_fault_in_the_queries_that_close_a_month_is_found(
    planting: Planting, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, table: str, says: str
) -> None:
    named = [(entries, name) for name in ("_CHARGES", "_ADJUSTMENTS", "_MANUAL", "_SEALS")]
    named += [(line_rates, name) for name in ("_CHARGES", "_ADJUSTMENTS")]
    queries = {(module, name): str(getattr(module, name)) for module, name in named}
    assert any(right in query for query in queries.values())
    for (module, name), query in queries.items():
        monkeypatch.setattr(module, name, text(query.replace(right, wrong)))
    assert planting.books.close("2026-11", force_reason="for the audit") == {}
    assert [found for found in planting.audit() if found[0] == table and says in found[2]]
