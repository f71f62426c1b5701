"""daily_usage: a row a day and combination, and at every moment what the totals say."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from metering.corrections.adjust_manually import adjust_manually
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import Outcome, UsageSource
from metering.events.usage import COUNTERS
from metering.ledger.entries import ManualKind
from metering.ledger.store.rollups import roll_up_totals
from metering.stripe.put_customer import put_customer
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import Granularity, read_totals
from tests.builders import NOW, T0, Books, end, start
from tests.reporting.views import Row, read

DAY = timedelta(days=1)
KEY = ("day", *(group.value for group in Group))


def totals(books: Books) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    question = TotalsQuestion(
        from_=datetime(2026, 1, 1, tzinfo=UTC),
        to=datetime(2027, 1, 1, tzinfo=UTC),
        granularity=Granularity.DAY,
        group_by=list(Group),
        customer_id=None,
        after=None,
        limit=1_000,
    )
    with transaction(books.service.engine) as connection:
        rows = read_totals(connection, question=question, accruals=[])
    return {
        (row.start, *row.group.values()): (row.stream_count, *row.counters.values(), row.usd_cents) for row in rows
    }


def view(books: Books) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = read(books.database, "SELECT * FROM daily_usage")
    found = {tuple(row[name] for name in KEY): _sums(row) for row in rows}
    assert len(found) == len(rows), "a combination has two rows"
    for row in rows:
        assert row["usd"] * 100 == row["usd_cents"]
    return found


def _sums(row: Row) -> tuple[Any, ...]:
    return (row["stream_count"], *(row[name] for name in COUNTERS), row["usd_cents"])


def use(books: Books, stream_id: str, *, at: datetime = T0, **changes: Any) -> None:
    outcome = {name: changes.pop(name) for name in ("outcome", "usage_source") if name in changes}
    begun = start(stream_id, time=at, **changes)
    books.receive([begun, end(stream_id, 4_000, time=at + timedelta(seconds=4), **outcome)], at=at)
    books.finalize(now=max(at, NOW) + timedelta(minutes=1))


def test_it_says_what_the_totals_say_whether_pending_or_rolled_up_or_both(books: Books) -> None:
    use(books, "one")
    use(books, "two", outcome=Outcome.CANCELLED)
    use(books, "other", model="claude-haiku-4.5", api_key_id="key_1", usage_source=UsageSource.PROVIDER)
    assert len(view(books)) == 3
    assert view(books) == totals(books)
    roll_up_totals(books.service.engine)
    assert view(books) == totals(books)
    use(books, "three")
    use(books, "yesterday", at=T0 - DAY)
    both = view(books)
    assert both == totals(books)
    assert sorted(count for count, *_ in both.values()) == [1, 1, 1, 2]
    roll_up_totals(books.service.engine)
    assert view(books) == both


def test_what_moved_to_another_combination_leaves_no_row_behind(books: Books) -> None:
    books.receive([start()])
    books.finalize(now=NOW + timedelta(hours=1))  # swept
    roll_up_totals(books.service.engine)
    (abandoned,) = view(books)
    books.receive([end(time=T0 + DAY)], at=NOW + timedelta(hours=2))
    books.finalize(now=NOW + timedelta(hours=3))
    (completed,) = view(books)
    assert (abandoned[0], completed[0]) == (T0.replace(hour=0), T0.replace(hour=0) + DAY)
    assert view(books) == totals(books)


def test_a_credit_of_no_stream_counts_without_a_model(books: Books) -> None:
    use(books, "one")
    roll_up_totals(books.service.engine)
    adjust_manually(
        engine=books.service.engine,
        idempotency_key="k",
        customer_id="acme",
        stream_id=None,
        kind=ManualKind.CREDIT,
        usd_cents=Decimal("-0.000000000000000000001"),
        reason="goodwill",
        booked_by="test",
        now=NOW,
    )
    assert view(books) == totals(books)
    (credit,) = read(books.database, "SELECT * FROM daily_usage WHERE model IS NULL")
    assert (credit["stream_count"], credit["usd"]) == (0, Decimal("-0.00000000000000000000001"))


def test_the_day_is_utc_whatever_the_session(books: Books) -> None:
    use(books, "late", at=datetime(2026, 11, 22, 23, 30, tzinfo=UTC))
    for _ in ("pending", "rolled up"):
        (row,) = read(books.database, "SELECT day FROM daily_usage", time_zone="Asia/Tokyo")
        assert row["day"] == datetime(2026, 11, 22, tzinfo=UTC)
        roll_up_totals(books.service.engine)


def test_a_customers_name_goes_with_it(books: Books) -> None:
    use(books, "one")
    details = CustomerDetails(name="Acme Inc.")
    put_customer(engine=books.service.engine, customer_id="acme", details=details, now=NOW)
    assert read(books.database, "SELECT DISTINCT customer_name FROM daily_usage") == [
        {"customer_name": "Acme Inc."}
    ]
