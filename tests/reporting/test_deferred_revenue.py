"""`deferred_revenue`: opening + sold - recognised - breakage - refunded = closing, per grant and month."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from metering.credits.end_grant import refund_grant
from metering.credits.queries.deferred_revenue import DeferredRevenue, deferred_revenue, deferred_revenue_in_all
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.stripe.put_customer import put_customer
from tests.builders import Books
from tests.credits.scenes import COST, give, use
from tests.reporting.views import Row, read

JULY = datetime(2026, 7, 10, tzinfo=UTC)
MOVES = ("sold_cents", "recognised_cents", "breakage_cents", "refunded_cents")


def months(books: Books) -> list[Row]:
    found = read(books.database, "SELECT * FROM deferred_revenue ORDER BY grant_id, period")
    for row in found:
        sold, recognised, breakage, refunded = (row[name] for name in MOVES)
        assert row["opening_cents"] + sold - recognised - breakage - refunded == row["closing_cents"]
        assert row["closing_usd"] * 100 == row["closing_cents"]
    return found


def test_a_grant_has_a_row_for_each_month_until_nothing_is_deferred(books: Books) -> None:
    made = give(books, "2", paid=1000, at=datetime(2026, 11, 10, tzinfo=UTC))
    for number, at in enumerate((datetime(2026, 11, 15, tzinfo=UTC), datetime(2027, 1, 15, tzinfo=UTC))):
        use(books, f"s{number}", now=at + timedelta(days=1), time=at)
    refund_grant(
        engine=books.service.engine,
        idempotency_key="r",
        grant_id=made.grant_id,
        usd_cents=None,
        reason="ended",
        by="finance",
        now=datetime(2027, 2, 2, tzinfo=UTC),
    )
    found = months(books)
    assert [row["period"] for row in found] == ["2026-11", "2026-12", "2027-01", "2027-02"]
    earned = int(1000 * COST / 2)
    assert [tuple(row[name] for name in MOVES) for row in found] == [
        (1000, earned, 0, 0),
        (0, 0, 0, 0),
        (0, int(1000 * COST) - earned, 0, 0),
        (0, 0, 0, 1000 - int(1000 * COST)),
    ]
    assert found[-1]["closing_cents"] == 0


def test_what_expired_is_breakage_of_the_month_of_its_expiry_although_nothing_looked_at_it(books: Books) -> None:
    expires = datetime(2026, 8, 31, 23, 30, tzinfo=UTC)
    details = CustomerDetails(time_zone="Europe/Berlin")
    put_customer(engine=books.service.engine, customer_id="acme", details=details, now=JULY)
    give(books, "2", paid=1000, at=JULY, expires_at=expires)
    before = months(books)
    assert [(row["period"], row["breakage_cents"]) for row in before] == [
        ("2026-07", 0),
        ("2026-08", 0),
        ("2026-09", 1000),
    ]
    use(books, now=datetime(2026, 11, 23, 16, tzinfo=UTC))
    give(books, "5", key="next", at=datetime(2026, 11, 24, tzinfo=UTC))
    assert months(books) == before


def test_the_view_and_the_api_have_the_same_figures(books: Books) -> None:
    give(books, "0.3", paid=700, at=JULY, key="a")
    give(
        books, "3", paid=900, at=JULY + timedelta(days=31), key="b", expires_at=datetime(2026, 11, 18, tzinfo=UTC)
    )
    give(books, "3", at=JULY, key="promotional")
    use(books, time=datetime(2026, 11, 15, tzinfo=UTC), now=datetime(2026, 11, 20, tzinfo=UTC))
    found = months(books)
    with transaction(books.service.engine) as connection:
        for period in ("2026-07", "2026-08", "2026-09", "2026-10", "2026-11"):
            asked: dict[str, Any] = {"period": period, "customer_id": None, "now": datetime.now(UTC)}
            row = deferred_revenue_in_all(connection, **asked)
            same = [each for each in found if each["period"] == period]
            by_grant = deferred_revenue(connection, **asked, after=None, limit=10)
            assert {(each.grant_id, *_cents(each.revenue)) for each in by_grant} == {
                (each["grant_id"], each["opening_cents"], *(each[name] for name in MOVES)) for each in same
            }
            assert row.closing_cents == sum(each["closing_cents"] for each in same)
            assert row.opening_cents == sum(each["opening_cents"] for each in same)
    assert sum(row["sold_cents"] for row in found) == Decimal(1600)


def _cents(revenue: DeferredRevenue) -> tuple[int, ...]:
    return (revenue.opening_cents, *(getattr(revenue, name) for name in MOVES))
