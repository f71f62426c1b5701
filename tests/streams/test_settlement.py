"""Settlement: what a stream's facts, and its silence, amount to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest

from metering.events.events import Outcome, TokenDelivered, UsageEvent, UsageSource
from metering.events.usage import Usage, UsageKind
from metering.prices.cancel_policies import CancelPolicy, CancelPolicyBook, CancelTerms
from metering.prices.price_book import Markup, MarkupBook, PriceBook
from metering.prices.rate_book import RateBook
from metering.prices.rates import DailyWindow, Rate, RateCard
from metering.streams.bill import Bill
from metering.streams.settlement import Backlog, Settled, Settlement, State, Wait, WaitingTimes, settle
from metering.streams.stream import fold
from tests import builders

T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)
PATIENCE = WaitingTimes(
    abandon_after=timedelta(minutes=15), start_grace=timedelta(minutes=5), retry_window=timedelta(minutes=10)
)


def card(rate_card_id: str, usd: str, since: datetime = T0 - timedelta(days=9)) -> RateCard:
    prices = {UsageKind.INPUT: Decimal(usd), UsageKind.OUTPUT: Decimal(usd) * 5}
    return RateCard(
        rate_card_id=rate_card_id,
        provider="anthropic",
        model="claude-opus-4-7",
        effective_from=since,
        rates=tuple(Rate(kind=kind, usd_per_million=price) for kind, price in prices.items()),
        names={"starts_with": "claude-opus-4"},
    )


PRICES = PriceBook(rates=RateBook([card("rc_1", "5")]))


# Neither the gateway's tokens nor the upstream's, unless a test says so.
start = partial(builders.start, input_tokens=100)
end = partial(builders.end, usage=None, usage_source=None)


def delivered(tokens: int, at: datetime = T0 + timedelta(seconds=2)) -> TokenDelivered:
    return builders.delivered(tokens=tokens, seq=tokens, time=at)


def settled(*events: UsageEvent, after: timedelta = timedelta(0), prices: PriceBook = PRICES) -> Settlement:
    (facts,) = fold(events).values()
    return settle(facts=facts, last_received_at=T0, now=T0 + after, waits=PATIENCE, prices=prices)


def bill(*events: UsageEvent, after: timedelta = timedelta(0), prices: PriceBook = PRICES) -> Bill:
    settlement = settled(*events, after=after, prices=prices)
    assert isinstance(settlement, Settled)
    return settlement.bill


def test_usage_of_the_end_counts_and_delivered_counters_fill_what_it_lacks() -> None:
    usage = Usage(output_tokens=None, input_tokens=90)
    booked = bill(start(), delivered(7), end(usage=usage, usage_source=UsageSource.PROVIDER))
    assert booked.usage == Usage(input_tokens=90, output_tokens=7)
    assert booked.usd_cents == Decimal("0.045") + Decimal("0.0175")


def test_a_cancelled_stream_pays_its_input_and_what_was_delivered() -> None:
    booked = bill(start(), delivered(7), end(outcome=Outcome.CANCELLED))
    assert booked.outcome is Outcome.CANCELLED
    assert booked.usage == Usage(input_tokens=100, output_tokens=7)
    assert booked.usage_source is UsageSource.ESTIMATE


def test_a_stream_that_delivered_nothing_is_billed_nothing_not_even_its_input() -> None:
    usage = Usage(input_tokens=100, output_tokens=0)
    counted = end(outcome=Outcome.CANCELLED, usage=usage, usage_source=UsageSource.GATEWAY_COUNT)
    for last in (end(outcome=Outcome.FAILED), counted):
        assert bill(start(), last).usd_cents == 0


def test_what_the_upstream_reports_is_billed_even_if_nothing_was_delivered() -> None:
    usage = Usage(input_tokens=100, output_tokens=0)
    assert bill(start(), end(usage=usage, usage_source=UsageSource.PROVIDER)).usd_cents == Decimal("0.05")


def test_unreported_input_counts_as_zero_and_is_flagged() -> None:
    booked = bill(start(input_tokens=None), delivered(7), end())
    assert booked.input_unknown
    assert booked.usd_cents == Decimal("0.0175")


def test_a_silent_stream_is_open_until_its_time_is_up_and_then_abandoned() -> None:
    just_before = PATIENCE.abandon_after - timedelta(microseconds=1)
    assert settled(start(), delivered(7), after=just_before) == Wait(State.OPEN, T0 + PATIENCE.abandon_after)
    booked = bill(start(), delivered(7), after=PATIENCE.abandon_after)
    assert booked.outcome is Outcome.ABANDONED
    assert booked.ended_at == T0 + timedelta(seconds=2)


def test_an_end_without_a_start_waits_for_it_and_is_then_orphaned_not_billed() -> None:
    assert settled(end()) == Wait(State.ENDED, T0 + PATIENCE.start_grace)
    orphan = settled(end(), after=PATIENCE.start_grace)
    assert isinstance(orphan, Backlog)
    assert orphan.state is State.ORPHANED


def test_a_model_without_a_rate_is_unpriced_never_free() -> None:
    unpriced = settled(start(model="nobody-1"), delivered(1), end())
    assert isinstance(unpriced, Backlog)
    assert unpriced.state is State.UNPRICED
    assert "anthropic/nobody-1" in unpriced.reason


def test_a_request_that_failed_for_an_unknown_model_costs_nothing_and_needs_no_person() -> None:
    assert bill(start(model="nobody-1"), end(outcome=Outcome.FAILED)).usd_cents == 0


def test_the_model_that_answered_is_rated_rather_than_the_one_that_was_asked() -> None:
    assert bill(start(model="alias"), delivered(1), end(response_model="claude-opus-4.7")).rated_model


def test_two_starts_that_contradict_each_other_need_a_person() -> None:
    conflict = settled(start(), start(model="claude-opus-4.6"), delivered(1), end())
    assert isinstance(conflict, Backlog)
    assert conflict.state is State.CONFLICTING
    assert "stream-start" in conflict.reason


def test_a_conflict_is_reported_before_a_missing_start() -> None:
    conflict = settled(end(), end(outcome=Outcome.FAILED))
    assert isinstance(conflict, Backlog)
    assert conflict.state is State.CONFLICTING


def test_a_resent_start_with_another_time_is_no_conflict_and_the_earliest_counts() -> None:
    later = start(time=T0 + timedelta(seconds=1))
    assert bill(later, start(), delivered(1), end()).started_at == T0


def test_an_end_from_the_upstream_overrules_ends_that_only_guess_even_conflicting_ones() -> None:
    guesses = [end(usage=Usage(output_tokens=count), usage_source=UsageSource.ESTIMATE) for count in (5, 6)]
    assert isinstance(settled(start(), *guesses), Backlog)
    known = end(usage=Usage(input_tokens=1, output_tokens=9), usage_source=UsageSource.PROVIDER)
    assert bill(start(), *guesses, known).usage.output_tokens == 9


def test_the_card_in_force_at_the_start_is_used_not_the_one_at_the_end() -> None:
    prices = PriceBook(rates=RateBook([card("rc_1", "5"), card("rc_2", "50", since=T0 + timedelta(seconds=1))]))
    assert bill(start(), delivered(1), end(), prices=prices).rate_card_id == "rc_1"


def test_a_card_that_was_added_later_does_not_alter_what_is_booked() -> None:
    booked = bill(start(), delivered(1), end())
    newer = PriceBook(rates=RateBook([card("rc_1", "5"), card("rc_2", "50", since=T0 - timedelta(days=1))]))
    (facts,) = fold([start(), delivered(3), end()]).values()
    again = settle(facts=facts, last_received_at=T0, now=T0, waits=PATIENCE, prices=newer, booked=booked)
    assert isinstance(again, Settled)
    assert again.bill.rate_card_id == "rc_1"
    assert bill(start(), delivered(3), end(), prices=newer).rate_card_id == "rc_2"


@pytest.mark.parametrize(
    ("starts", "usd"),
    [
        (T0 - timedelta(seconds=1), "5"),  # it ends within the window
        (T0, "1"),
        (T0 + timedelta(minutes=59, seconds=59), "1"),  # it ends after the window
        (T0 + timedelta(hours=1), "5"),
    ],
)
def test_the_rate_of_the_time_of_day_is_chosen_by_the_start_and_by_no_later_event(
    starts: datetime, usd: str
) -> None:
    window = DailyWindow(T0.time(), (T0 + timedelta(hours=1)).time())
    always = card("rc_1", "5")
    within = tuple(replace(rate, usd_per_million=rate.usd_per_million / 5, daily=window) for rate in always.rates)
    prices = PriceBook(rates=RateBook([replace(always, rates=(*always.rates, *within))]))
    ended = end(time=starts + timedelta(seconds=4), usage=Usage(input_tokens=100, output_tokens=7))
    found = bill(start(time=starts), delivered(7, starts + timedelta(seconds=3)), ended, prices=prices)
    assert {line.kind: str(line.usd_per_million) for line in found.lines} == {
        UsageKind.INPUT: usd,
        UsageKind.OUTPUT: str(int(usd) * 5),
    }


def test_terms_are_those_of_the_start_though_they_change_before_the_end() -> None:
    change = T0 + timedelta(seconds=2)
    policies = [
        CancelTerms(provider="anthropic", policy=policy, version=version, effective_from=since)
        for version, (policy, since) in enumerate(
            [(CancelPolicy.DELIVERED, T0 - timedelta(days=1)), (CancelPolicy.ZERO, change)], start=1
        )
    ]
    markup = Markup(customer_id="acme", percent=Decimal(50), effective_from=change)
    prices = PriceBook(
        rates=RateBook([card("rc_1", "5"), card("rc_2", "9", change)]),
        cancel_policies=CancelPolicyBook(policies),
        markups=MarkupBook([markup]),
    )
    found = bill(
        start(), end(outcome=Outcome.CANCELLED, usage=Usage(input_tokens=100, output_tokens=7)), prices=prices
    )
    assert (found.rate_card_id, found.cancel_policy_version, found.markup_percent) == ("rc_1", 1, 0)
    assert found.usd_cents > 0


def test_a_customers_own_price_is_not_marked_up() -> None:
    own = replace(card("rc_own", "4"), customer_id="acme")
    markups = [Markup(customer_id="acme", percent=Decimal(50), effective_from=T0 - timedelta(days=1))]
    prices = PriceBook(rates=RateBook([card("rc_1", "5"), own]), markups=MarkupBook(markups))
    found = bill(start(), end(usage=Usage(input_tokens=100, output_tokens=7)), prices=prices)
    assert (found.rate_card_id, found.markup_percent, found.lines[0].usd_per_million) == ("rc_own", 0, 4)
