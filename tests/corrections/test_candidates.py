"""Candidates of a stream: each start with each end of the rank that wins, and what they cost, as far as known."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from metering.corrections.candidates import Arrived, Candidate, candidates_of, estimate, estimate_in_backlog
from metering.events.events import StreamEnd, StreamStart, UsageEvent, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.prices.price_book import PriceBook
from metering.prices.rate_book import RateBook
from metering.prices.rates import Rate, RateCard
from metering.streams.settlement import State
from metering.streams.stream import StreamFacts, fold
from tests import builders

T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)
NONE = PriceBook(rates=RateBook([]))


def card(usd: str, since: datetime = T0 - timedelta(days=9), model: str = "claude-opus-4-7") -> RateCard:
    kinds = (UsageKind.INPUT, UsageKind.OUTPUT)
    return RateCard(
        rate_card_id=f"rc_{model}_{usd}",
        provider="anthropic",
        model=model,
        effective_from=since,
        rates=tuple(Rate(kind=kind, usd_per_million=Decimal(usd)) for kind in kinds),
        names={"starts_with": "claude-opus-4"},
    )


PRICES = PriceBook(rates=RateBook([card("5")]))


def end(output: int, source: UsageSource = UsageSource.PROVIDER, *, second: int = 4) -> StreamEnd:
    usage = Usage(input_tokens=100, output_tokens=output)
    return builders.end(usage=usage, usage_source=source, time=T0 + timedelta(seconds=second))


def start(*, minute: int = 0, **changes: str) -> StreamStart:
    return builders.start(time=T0 + timedelta(minutes=minute), **changes)


def facts(*events: UsageEvent) -> StreamFacts:
    (found,) = fold(events).values()
    return found


def came(*events: UsageEvent) -> list[Arrived]:
    return [
        Arrived(
            event=event, received_at=T0 + timedelta(hours=place), source=f"/gateways/{place}", ingest_key_id="k"
        )
        for place, event in enumerate(events)
    ]


def found(events: Iterable[UsageEvent], prices: PriceBook = PRICES) -> list[Candidate]:
    given = list(events)
    return list(candidates_of(facts(*given), came(*given), prices))


def test_each_end_of_the_rank_that_wins_is_a_candidate_with_its_cost() -> None:
    first, second = found([start(), end(50), end(900, second=5)])
    assert (first.wins, second.wins) == (True, False)
    assert (first.estimate.usd_cents, second.estimate.usd_cents) == (Decimal("0.075"), Decimal("0.5"))
    assert second.end is not None
    assert (second.end.source, second.end.received_at) == ("/gateways/2", T0 + timedelta(hours=2))


def test_two_starts_and_two_ends_are_four() -> None:
    four = found([start(), start(minute=1, api_key_id="k2"), end(1), end(2, second=5)])
    assert [each.wins for each in four] == [True, False, False, False]


def test_an_overruled_end_is_none_and_one_that_came_twice_is_one() -> None:
    (one,) = found([start(), end(50), end(50), end(900, UsageSource.ESTIMATE)])
    assert one.end is not None
    assert one.end.times == 2


def test_what_the_journal_has_no_longer_is_a_candidate_without_its_arrival() -> None:
    (one,) = candidates_of(facts(start(), end(50), end(900, second=5)), [], PRICES)
    assert one.start is not None
    assert one.end is not None
    assert (one.wins, one.end.received_at, one.end.source) == (True, None, None)


def test_without_a_start_nothing_is_known() -> None:
    (one,) = found([end(50)])
    assert (one.start, one.estimate.usd_cents, one.estimate.at_most) == (None, None, None)
    assert "the model is not known" in (one.estimate.problem or "")


def test_a_price_that_comes_later_bounds_the_cost_by_the_highest() -> None:
    later = PriceBook(rates=RateBook([card("5", T0 + timedelta(days=1)), card("7", T0 + timedelta(days=2))]))
    known = estimate(facts(start(), end(50)), later)
    assert (known.usd_cents, known.at_most) == (None, Decimal("0.105"))
    assert estimate(facts(start(), end(50)), NONE).at_most is None


def test_what_failed_is_not_calculated_again() -> None:
    known = estimate_in_backlog(facts(start(), end(50)), State.FAILED, PRICES)
    assert (known.usd_cents, known.problem) == (None, "its cost cannot be calculated")
