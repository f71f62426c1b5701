"""Rerating: previewed, booked as adjustments that point at the charge, and after that nothing is left to book."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from metering.core.period import BillingPeriod
from metering.corrections.rerate import RerateGroup, rerate
from metering.events.events import Outcome, UsageSource
from metering.events.usage import UsageKind
from metering.ledger.entries import AdjustmentReason
from metering.ledger.queries.charges import BillFilter
from metering.prices.rates import Rate
from metering.prices.set_rate import set_rate
from tests.builders import NOW, T0, Books, end, start

OLD, NEW = Decimal("0.4985"), Decimal("0.0849")


def set_price(books: Books, usd: str, now: datetime = NOW) -> None:
    set_rate(
        engine=books.service.engine,
        provider="anthropic",
        model="claude-opus-4-7",
        effective_from=T0 - timedelta(hours=int(usd)),
        rates=[Rate(kind=kind, usd_per_million=Decimal(usd)) for kind in (UsageKind.INPUT, UsageKind.OUTPUT)],
        set_by="test",
        now=now,
    )


def run(
    books: Books, *, book: bool, period: str = "2026-11", model: str | None = None, now: datetime = NOW
) -> Sequence[RerateGroup]:
    return rerate(
        engine=books.service.engine,
        price_books=books.service.price_books,
        where=BillFilter(period=BillingPeriod.parse(period), model=model),
        now=now,
        book=book,
    )


def test_a_preview_shows_the_difference_and_books_nothing(books: Books) -> None:
    books.receive(
        [start("a"), end("a"), start("b"), end("b"), start("c", model="gpt-5", provider="openai"), end("c")]
    )
    books.finalize()
    assert run(books, book=False) == []
    set_price(books, "1")
    before = books.check_totals()
    (group,) = run(books, book=False)
    assert (group.model, group.stream_count, group.usd_cents, group.new_usd_cents) == (
        "claude-opus-4.7",
        2,
        2 * OLD,
        2 * NEW,
    )
    assert books.check_totals() == before
    assert run(books, book=False, model="gpt-5") == []
    assert run(books, book=False, period="2026-10") == []


def test_booking_adjusts_each_charge_once_and_totals_follow(books: Books) -> None:
    books.receive([event for place in range(7) for event in (start(f"s{place}"), end(f"s{place}"))])
    books.finalize()
    set_price(books, "1")
    assert sum(group.stream_count for group in run(books, book=True)) == 7
    assert run(books, book=True) == []
    view = books.stream("s3")
    assert view.charge is not None
    assert view.charge.bill.usd_cents == OLD
    assert [(entry.reason, entry.usd_cents, entry.charge_id) for entry in view.adjustments] == [
        (AdjustmentReason.RERATE, NEW - OLD, view.charge.charge_id)
    ]
    assert books.check_totals() == 7 * NEW


def test_later_facts_are_priced_by_what_the_stream_was_rerated_to(books: Books) -> None:
    books.receive([start(), end(output=30)])
    books.finalize()
    set_price(books, "1")
    run(books, book=True)
    set_price(books, "2")
    books.receive([end(output=37, usage_source=UsageSource.PROVIDER)])
    books.finalize()
    assert books.stream().cost_usd_cents == NEW == books.check_totals()


def test_an_adjusted_stream_is_rerated_from_its_newest_bill(books: Books) -> None:
    books.receive([start()])
    swept_at = NOW + books.service.waits.abandon_after
    books.finalize(now=swept_at)
    books.receive([end(outcome=Outcome.CANCELLED)], at=swept_at)
    books.finalize(now=swept_at)
    set_price(books, "1", now=swept_at)
    run(books, book=True, now=swept_at)
    assert books.stream().cost_usd_cents == NEW == books.check_totals()
    assert books.stream().stream.revision == 2
