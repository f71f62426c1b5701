"""What a month would have cost under another cancel policy, without writing anything."""

from datetime import timedelta
from decimal import Decimal

from metering.core.period import BillingPeriod
from metering.corrections.simulate_cancel_policy import simulate_cancel_policy
from metering.events.events import Outcome
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.set_terms import set_cancel_policy
from tests.builders import NOW, T0, Books, end, start

COST = Decimal("0.4985")


def simulate(
    books: Books, policy: CancelPolicy, period: str = "2026-11"
) -> dict[tuple[str, str], tuple[int, Decimal, Decimal, int]]:
    costs = simulate_cancel_policy(
        engine=books.service.engine, period=BillingPeriod.parse(period), policy=policy, provider=None
    )
    return {
        (cost.provider, cost.outcome.value): (
            cost.stream_count,
            cost.usd_cents,
            cost.would_cost_usd_cents,
            cost.unpriced,
        )
        for cost in costs
    }


def waive(books: Books, provider: str) -> None:
    set_cancel_policy(
        engine=books.service.engine,
        provider=provider,
        policy=CancelPolicy.ZERO,
        effective_from=T0 - timedelta(days=1),
        set_by="test",
        now=NOW,
    )


def test_what_was_billed_would_be_waived_and_what_was_waived_would_be_billed(books: Books) -> None:
    waive(books, "openai")
    books.receive([start("a"), end("a", outcome=Outcome.CANCELLED), start("b"), end("b", outcome=Outcome.FAILED)])
    books.receive([start("done"), end("done")])
    books.receive([start("c", provider="openai", model="gpt-5"), end("c", outcome=Outcome.CANCELLED)])
    books.receive([start("d", provider="openai", model="none"), end("d", outcome=Outcome.CANCELLED)])
    books.finalize()
    assert simulate(books, CancelPolicy.ZERO) == {
        ("anthropic", "cancelled"): (1, COST, 0, 0),
        ("anthropic", "failed"): (1, COST, 0, 0),
        ("openai", "cancelled"): (2, 0, 0, 0),
    }
    gpt_5 = (812 * Decimal("1.25") + 37 * 10) / 10_000
    assert simulate(books, CancelPolicy.DELIVERED)["openai", "cancelled"] == (2, 0, gpt_5, 1)
    assert simulate(books, CancelPolicy.DRAIN)["anthropic", "cancelled"] == (1, COST, COST, 0)
    assert simulate(books, CancelPolicy.ZERO, "2026-10") == {}
    assert books.check_totals() == 3 * COST


def test_an_adjusted_stream_counts_with_its_newest_bill(books: Books) -> None:
    books.receive([start("a")])
    swept_at = NOW + books.service.waits.abandon_after
    books.finalize(now=swept_at)
    books.receive([end("a", outcome=Outcome.CANCELLED)], at=swept_at)
    books.finalize(now=swept_at)
    assert simulate(books, CancelPolicy.ZERO) == {("anthropic", "cancelled"): (1, COST, 0, 0)}
