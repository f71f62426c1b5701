"""Billing: what a stream costs by its facts, the prices and the terms in force when it started."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from metering.core.errors import MeteringError
from metering.core.money import EXACT, ZERO
from metering.events.events import Outcome, StreamEnd, StreamStart
from metering.events.usage import Usage, UsageKind
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.price_book import PriceBook
from metering.prices.rate_book import CardMatch, RateBook
from metering.prices.rates import RateCard
from metering.prices.rating import ChargeLine, RateMissingError, rate_by_card, upstream_cost_line
from metering.prices.service_tiers import service_tier_of
from metering.streams.bill import Bill, Flag, PriceSource
from metering.streams.dating import SKEWED
from metering.streams.resolutions import ResolutionAction
from metering.streams.stream import BillableUsage, StreamFacts, billable_usage


class UnpricedError(MeteringError):
    """The usage has no price."""


class UnmeasuredError(MeteringError):
    """The stream completed, and nothing is known of what it used."""

    def __init__(self) -> None:
        super().__init__(
            "the stream completed, and no usage, no delivered tokens and no input arrived: "
            "send a stream-end with its usage"
        )


# Provider and model in the bill of a stream that was written off without a start.
UNKNOWN = "unknown"


def written_off(*, facts: StreamFacts, retry_of: str | None) -> Bill:
    """The bill of a stream that an admin writes off: its usage, and no cost."""
    start, end = facts.start.event if facts.start else None, facts.end.event if facts.end else None
    usage = billable_usage(facts)
    return Bill(
        outcome=end.outcome if end else Outcome.ABANDONED,
        provider=start.provider if start else UNKNOWN,
        model=start.model if start else UNKNOWN,
        response_provider=end.response_provider if end else None,
        response_model=end.response_model if end else None,
        api_key_id=start.api_key_id if start else None,
        started_at=facts.start.at if facts.start else facts.last_event_at,
        ended_at=facts.ended_at,
        usage=usage.usage,
        usage_source=usage.source,
        input_unknown=usage.input_unknown,
        flags=flags_of(facts, usage, ()),
        upstream_usd_cents=upstream_cents(end),
        cancel_policy=CancelPolicy.DELIVERED,
        rate_card_id=None,
        rated_model=None,
        retry_of=retry_of,
        resolution=ResolutionAction.WRITE_OFF,
        inlet=facts.inlet,
        lines=(),
    )


class _Terms(Struct, frozen=True, gc=False):
    """The terms by which a stream is priced. `by_upstream`: the upstream's cost is the price where no rate is."""

    match: CardMatch | None
    cancel_policy: CancelPolicy
    cancel_policy_version: int
    markup_percent: Decimal
    by_upstream: bool


class _Priced(Struct, frozen=True, gc=False):
    """What the usage costs: the lines, the card if it is by rates, and kinds priced as what they nest in."""

    lines: tuple[ChargeLine, ...] = ()
    card: RateCard | None = None
    source: PriceSource = PriceSource.RATE_CARD
    at_parent_rate: tuple[UsageKind, ...] = ()


def make_bill(
    *,
    facts: StreamFacts,
    start: StreamStart,
    prices: PriceBook,
    booked: Bill | None = None,
    retry_of: str | None = None,
    silence: Outcome = Outcome.ABANDONED,
) -> Bill:
    """The bill of a stream with this start; `silence` is the outcome of a stream without an end.

    The prices and terms of its newest bill, `booked`, apply while the model and the start are unchanged.

    Raises:
        UnpricedError: the model, or a kind that was used, has no rate.
        UnmeasuredError: the stream completed, and nothing is known of its usage.
    """
    end = facts.end.event if facts.end else None
    outcome = end.outcome if end else silence
    usage = billable_usage(facts)
    if usage.unmeasured:
        raise UnmeasuredError
    answered = _Answered.by(facts, start)
    terms = _booked_terms(booked, start, answered, prices) or _terms(start, answered, prices)
    if usage.nothing or terms.cancel_policy.waives(outcome):
        priced = _Priced(card=terms.match.card if terms.match else None)
    else:
        priced = _priced(usage.usage, end, answered, terms, prices.rates)
    return Bill(
        outcome=outcome,
        provider=start.provider,
        model=start.model,
        response_provider=end.response_provider if end else None,
        response_model=end.response_model if end else None,
        service_tier=answered.service_tier,
        api_key_id=start.api_key_id,
        started_at=answered.started_at,
        ended_at=facts.ended_at,
        usage=usage.usage,
        usage_source=usage.source,
        input_unknown=usage.input_unknown,
        flags=flags_of(facts, usage, priced.at_parent_rate),
        cancel_policy=terms.cancel_policy,
        cancel_policy_version=terms.cancel_policy_version,
        rate_card_id=priced.card.rate_card_id if priced.card else None,
        rated_model=priced.card.model if priced.card else None,
        model_rule=terms.match.rule if terms.match and priced.card else None,
        markup_percent=terms.markup_percent,
        price_source=priced.source,
        upstream_usd_cents=upstream_cents(end),
        retry_of=retry_of,
        inlet=facts.inlet,
        lines=priced.lines,
    )


class _Answered(Struct, frozen=True, gc=False):
    """Who answered a stream, and when it started: what its prices go by."""

    provider: str
    model: str
    service_tier: str | None
    started_at: datetime

    @classmethod
    def by(cls, facts: StreamFacts, start: StreamStart) -> "_Answered":
        """As the end says, or else as the start asked."""
        end = facts.end.event if facts.end else None
        return cls(
            provider=(end.response_provider if end else None) or start.provider,
            model=(end.response_model if end else None) or start.model,
            service_tier=service_tier_of(
                usage=None, answer=end.service_tier if end else None, request=start.service_tier
            ),
            started_at=facts.start.at if facts.start else start.time,
        )


def _priced(usage: Usage, end: StreamEnd | None, answered: _Answered, terms: _Terms, rates: RateBook) -> _Priced:
    """What the usage costs by its rates, or else by what the upstream says if that is accepted."""
    card = terms.match.card if terms.match else None
    if card is None:
        why = rates.explain(provider=answered.provider, model=answered.model, at=answered.started_at)
        missing = f"no rate for {answered.provider}/{answered.model} at {answered.started_at.isoformat()}: {why}"
    else:
        try:
            rated = rate_by_card(
                usage=usage,
                card=card,
                service_tier=answered.service_tier,
                at=answered.started_at,
                markup_percent=terms.markup_percent,
            )
            return _Priced(rated.lines, card, at_parent_rate=rated.at_parent_rate)
        except RateMissingError as error:
            missing = f"rate card {card.rate_card_id} of {card.provider}/{card.model} has {error}"
    cost = end.upstream_cost_usd if end else None
    if not terms.by_upstream or cost is None:
        raise UnpricedError(missing)
    line = upstream_cost_line(upstream_cost_usd=cost, markup_percent=terms.markup_percent)
    return _Priced((line,), source=PriceSource.UPSTREAM)


def flags_of(facts: StreamFacts, usage: BillableUsage, at_parent_rate: Sequence[UsageKind]) -> tuple[Flag, ...]:
    """The flags of a bill, in alphabetical order."""
    start = facts.start
    backwards = start is not None and facts.ended_at < start.at and facts.ended_at < start.at - SKEWED
    skewed = backwards or facts.clock_ahead_seconds is not None or facts.misdated
    if not (skewed or usage.faults or usage.output_unknown or at_parent_rate):
        return ()
    raised = {
        Flag.CLOCK_SKEW: skewed,
        Flag.INCONSISTENT_USAGE: bool(usage.faults),
        Flag.OUTPUT_UNKNOWN: usage.output_unknown,
        Flag.PARENT_RATE: bool(at_parent_rate),
    }
    return tuple(flag for flag, is_raised in raised.items() if is_raised)


def upstream_cents(end: StreamEnd | None) -> Decimal | None:
    """What the upstream says that the stream cost, in cents."""
    if end is None or end.upstream_cost_usd is None:
        return None
    return EXACT.scaleb(end.upstream_cost_usd, 2)


def _terms(start: StreamStart, answered: _Answered, prices: PriceBook) -> _Terms:
    """The terms in force when the stream starts."""
    at = answered.started_at
    match = prices.rates.find(
        customer_id=start.customer_id, provider=answered.provider, model=answered.model, at=at
    )
    policy, version = prices.cancel_policies.find(provider=answered.provider, at=at)
    # A customer's own card is the agreed price, and is not marked up.
    is_own = match is not None and match.card.customer_id is not None
    percent = ZERO if is_own else prices.markups.find(customer_id=start.customer_id, at=at)
    by_upstream = prices.upstream_prices.accepted(provider=answered.provider, at=at)
    return _Terms(match, policy, version, percent if match is not None or by_upstream else ZERO, by_upstream)


def _booked_terms(
    booked: Bill | None, start: StreamStart, answered: _Answered, prices: PriceBook
) -> _Terms | None:
    """The terms of the newest bill; None if there is none, or if it was for another model or time."""
    by_upstream = booked is not None and booked.price_source is PriceSource.UPSTREAM
    if booked is None or (booked.rate_card_id is None and not by_upstream):
        return None
    was = (
        booked.provider,
        booked.response_provider or booked.provider,
        booked.response_model or booked.model,
        booked.started_at,
    )
    if was != (start.provider, answered.provider, answered.model, answered.started_at):
        return None
    card = None if booked.rate_card_id is None else prices.rates.card(booked.rate_card_id)
    if card is None and not by_upstream:
        return None
    return _Terms(
        CardMatch(card, booked.model_rule or "") if card else None,
        booked.cancel_policy,
        booked.cancel_policy_version,
        booked.markup_percent,
        by_upstream,
    )
