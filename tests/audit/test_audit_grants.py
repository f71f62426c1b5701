"""The audit finds every manual change of grants, of their entries and of what follows from them."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.core.period import BillingPeriod
from metering.credits.end_grant import refund_grant, void_grant
from metering.credits.grant import GrantLimits
from tests.audit.planting import LATER, WITHOUT_TRIGGERS, Planting
from tests.builders import T0, Books
from tests.credits.scenes import credit, give, use

MINUTE = timedelta(minutes=1)


def fill_grants(books: Books) -> None:
    """Grants of every kind, with every kind of entry."""
    at, engine = LATER + MINUTE, books.service.engine
    expiring = {"expires_at": at + 10 * MINUTE, "priority": 1}
    give(books, "0.3", key="used up", at=at, paid=7, priority=0)
    give(books, "0.6", key="expires", at=at, paid=100, **expiring)
    limited = GrantLimits(providers=("openai",), models=("gpt-5.5",))
    give(books, "9", key="limited", at=at, limits=limited, priority=0)
    sold = give(books, "50", key="sold", at=at, paid=4000)
    promotional = give(books, "5", key="voided", at=at, priority=400)
    for number in range(3):
        use(books, f"g{number}", now=at + 2 * MINUTE)
    credit(books, "-0.1", stream_id="g2", now=at + 3 * MINUTE, key="g2")
    void_grant(engine=engine, grant_id=promotional.grant_id, reason="test", by="finance", now=at + 4 * MINUTE)
    refund_grant(
        engine=engine,
        idempotency_key="half",
        grant_id=sold.grant_id,
        usd_cents=Decimal(25),
        reason="test",
        by="finance",
        now=at + 4 * MINUTE,
    )
    use(books, "after the expiry", now=at + 20 * MINUTE)
    credit(books, "-0.2", stream_id="g1", now=at + 21 * MINUTE, key="g1")


@pytest.fixture
def granted(planting: Planting) -> Planting:
    fill_grants(planting.books)
    return planting


def kinds(planting: Planting) -> set[str]:
    with planting.books.owner() as connection:
        return {row[0] for row in connection.execute("SELECT DISTINCT kind FROM grant_entries")}


def audit(planting: Planting) -> list[tuple[str, str, str]]:
    return planting.books.audit(now=LATER + 60 * MINUTE)


def test_grants_with_every_kind_of_entry_agree(granted: Planting) -> None:
    assert kinds(granted) == {"granted", "drawn", "restored", "expired", "voided", "refunded"}
    assert audit(granted) == []


def test_a_closed_month_that_grants_paid_agrees(granted: Planting) -> None:
    assert granted.books.close("2026-11", force_reason="for the audit") == {}
    assert audit(granted) == []


OF_GRANT = "e.customer_id = g.customer_id AND e.grant_id = g.grant_id"
DRAWN = "kind = 'drawn' AND stream_id = 'g2'"
# One draw, and all that is kept of it, so that only what the draw means is wrong.
PLANTED = [
    (
        "UPDATE grants SET balance_usd_cents = balance_usd_cents - 0.1 WHERE balance_usd_cents > 1",
        "grants",
        "left",
    ),
    ("UPDATE grants SET drawn_usd_cents = drawn_usd_cents + 0.1 WHERE balance_usd_cents > 1", "grants", "drawn"),
    ("UPDATE grants SET released_cents = released_cents + 1 WHERE paid_usd_cents = 4000", "grants", "released"),
    ("UPDATE grants SET state = 'active' WHERE state = 'voided'", "grants", "active"),
    ("UPDATE grants SET entry_count = entry_count + 1", "grants", "entries"),
    ("UPDATE grants SET sold_period = '2026-10'", "grants", "stored"),
    ("UPDATE grants SET amount_usd_cents = amount_usd_cents + 1", "grants", "the audit log says"),
    ("UPDATE grants SET expires_at = expires_at + interval '1 hour'", "grants", "the audit log says"),
    ("UPDATE grants SET priority = 7 WHERE priority = 500", "grants", "the audit log says"),
    (f"UPDATE grant_entries SET usd_cents = usd_cents - 0.01 WHERE {DRAWN}", "grant_entries", "left"),
    (f"UPDATE grant_entries SET balance_usd_cents = 1 WHERE {DRAWN}", "grant_entries", "derived"),
    (f"DELETE FROM grant_entries WHERE {DRAWN}", "grant_entries", "of"),
    (
        "UPDATE grant_entries SET booked_at = booked_at - interval '1 day' WHERE kind = 'refunded'",
        "grant_entries",
        "",
    ),
    (
        "UPDATE grants g SET effective_from = changed_at + interval '1 hour', expires_at = NULL"
        f" FROM grant_entries e WHERE {OF_GRANT} AND {DRAWN}",
        "grant_entries",
        "the grant pays from",
    ),
    (
        "UPDATE grants SET expires_at = created_at + interval '1 second' WHERE paid_usd_cents = 4000",
        "grant_entries",
        "the grant pays from",
    ),
    (f"UPDATE grant_entries SET entry_id = 'ch_none' WHERE {DRAWN}", "grant_entries", "not booked"),
    (f"UPDATE grant_entries SET entry_period = '2026-12' WHERE {DRAWN}", "grant_entries", "2026-12"),
    (f"UPDATE grant_entries SET stream_id = 'g0' WHERE {DRAWN}", "grant_entries", "for g0"),
    (f"UPDATE grant_entries SET entry_period = '2026-12' WHERE {DRAWN}", "prepaid_months", "derived"),
    ("UPDATE prepaid_months SET drawn_usd_cents = drawn_usd_cents + 0.1", "prepaid_months", "stored"),
    ("DELETE FROM prepaid_months", "prepaid_months", "derived"),
    ("UPDATE grant_months SET breakage_cents = breakage_cents + 1", "grant_months", "stored"),
    ("UPDATE grant_months SET drawn_usd_cents = drawn_usd_cents + 0.1", "grant_months", "stored"),
    ("DELETE FROM grant_months WHERE sold_cents > 0", "grant_months", "derived"),
    (
        "UPDATE grant_entries SET released_cents = released_cents + 40 WHERE kind = 'drawn'",
        "grant_entries",
        "price",
    ),
    (
        "UPDATE grant_entries SET released_cents = released_cents - 1 WHERE kind = 'expired'",
        "grant_entries",
        "price",
    ),
    (
        f"UPDATE grants g SET only_providers = ARRAY['openai'] FROM grant_entries e WHERE {OF_GRANT} AND {DRAWN}",
        "grant_entries",
        "paid for",
    ),
    (
        "UPDATE manual_adjustments SET usd_cents = -0.05 WHERE stream_id = 'g2'",
        "grant_entries",
        "booked -0.05",
    ),
    (
        f"{WITHOUT_TRIGGERS}UPDATE charges SET usd_cents = 0.1 WHERE stream_id = 'g2'",
        "grant_entries",
        "grants paid",
    ),
    ("DELETE FROM audit_log WHERE kind = 'grant' AND action = 'create'", "grants", "nothing"),
]


@pytest.mark.parametrize(("statement", "table", "says"), PLANTED, ids=lambda value: value[:70])
def test_a_change_by_hand_is_found(granted: Planting, statement: str, table: str, says: str) -> None:
    granted.plant(statement)
    assert [what for what in audit(granted) if what[0] == table and says in what[2]]


def test_a_prepaid_line_that_differs_from_the_draws_is_found(granted: Planting) -> None:
    granted.books.close("2026-11", force_reason="for the audit")
    with granted.books.owner() as connection:
        connection.execute("UPDATE invoice_lines SET usd_cents = usd_cents - 0.1 WHERE kind = 'prepaid'")
    assert [what for what in audit(granted) if what[0] == "invoice_lines" and "prepaid" in what[1]]


def test_an_invoice_without_its_prepaid_line_is_found(granted: Planting) -> None:
    granted.books.close("2026-11", force_reason="for the audit")
    with granted.books.owner() as connection:
        connection.execute("DELETE FROM invoice_lines WHERE kind = 'prepaid'")
    assert [what for what in audit(granted) if what[0] == "invoice_lines" and "is missing" in what[2]]


def test_a_month_alone_is_audited_with_its_grants(granted: Planting) -> None:
    with granted.books.owner() as connection:
        connection.execute("UPDATE grants SET drawn_usd_cents = drawn_usd_cents + 0.1 WHERE paid_usd_cents = 4000")
    assert T0.month == 11
    found = granted.books.audit(now=LATER, period=BillingPeriod.parse("2026-11"))
    assert [what for what in found if what[0] == "grants"]
