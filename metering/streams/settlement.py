"""Settlement: decide from a stream's facts whether to wait, to leave it to a person, or to bill it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from metering.core.money import ZERO
from metering.events.events import Outcome, StreamStart
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.price_book import PriceBook
from metering.prices.rate_book import CardMatch
from metering.prices.rating import ChargeLine, RateMissingError, rate_by_card
from metering.prices.service_tiers import service_tier_of
from metering.streams.bill import Bill
from metering.streams.resolutions import Resolution, ResolutionAction
from metering.streams.stream import StreamFacts, billable_usage


class State(StrEnum):
    """The state of a stream. The last three need a person, or a fact that is missing."""

    OPEN = "open"
    ENDED = "ended"
    FINALIZED = "finalized"
    ORPHANED = "orphaned"
    UNPRICED = "unpriced"
    CONFLICTING = "conflicting"


NEEDS_PERSON = (State.ORPHANED, State.UNPRICED, State.CONFLICTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTimes:
    """How long to wait for events before a stream is abandoned or orphaned, and how soon a repeat is a retry."""

    abandon_after: timedelta
    start_grace: timedelta
    retry_window: timedelta


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`."""

    state: State
    until: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """Neither billed nor dropped until a person decides or the missing fact arrives."""

    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The facts result in this bill."""

    bill: Bill


Settlement = Wait | Backlog | Settled


def is_over(*, facts: StreamFacts, last_received_at: datetime, now: datetime, waits: WaitingTimes) -> bool:
    """Whether a stream has ended, or has been silent for long enough to count as abandoned."""
    return facts.end is not None or now >= last_received_at + waits.abandon_after


def settle(
    *,
    facts: StreamFacts,
    last_received_at: datetime,
    now: datetime,
    waits: WaitingTimes,
    prices: PriceBook,
    booked: Bill | None = None,
    retry_of: str | None = None,
    resolution: Resolution | None = None,
) -> Settlement:
    """Settle a stream by its facts, and by the time since the last one was received, at `now`.

    `booked` is the stream's newest bill. Its prices and terms apply while the stream's model and start are
    unchanged: prices added later do not change what is booked. `retry_of` is the id of the stream that this one is
    a retry of. A `resolution` counts only if no rule settles the stream.
    """
    settlement = _settle(facts, last_received_at, now, waits, prices, booked, retry_of)
    if isinstance(settlement, Backlog) and resolution is not None and resolution.holds_for(facts):
        return _resolve(settlement, facts, prices, booked, retry_of, resolution.action)
    return settlement


def _settle(
    facts: StreamFacts,
    last_received_at: datetime,
    now: datetime,
    waits: WaitingTimes,
    prices: PriceBook,
    booked: Bill | None,
    retry_of: str | None,
) -> Settlement:
    if not is_over(facts=facts, last_received_at=last_received_at, now=now, waits=waits):
        return Wait(State.OPEN, last_received_at + waits.abandon_after)
    if facts.conflicting:
        return Backlog(State.CONFLICTING, _conflict_reason(facts))
    if facts.start is None:
        if facts.end is not None and now < last_received_at + waits.start_grace:
            return Wait(State.ENDED, last_received_at + waits.start_grace)
        return Backlog(State.ORPHANED, "no stream-start arrived: send it, and the stream finalizes by itself")
    return _bill(facts, facts.start.event, prices, booked=booked, retry_of=retry_of)


# Provider and model in the bill of a stream that was written off without a start.
UNKNOWN = "unknown"


def _resolve(
    backlog: Backlog,
    facts: StreamFacts,
    prices: PriceBook,
    booked: Bill | None,
    retry_of: str | None,
    action: ResolutionAction,
) -> Settlement:
    if action is ResolutionAction.BILL_AS_IS:
        if facts.start is None or backlog.state is not State.CONFLICTING:
            return backlog
        settlement = _bill(facts, facts.start.event, prices, booked=booked, retry_of=retry_of)
        if isinstance(settlement, Backlog):
            return settlement
        return Settled(replace(settlement.bill, resolution=action))
    start, end = facts.start.event if facts.start else None, facts.end.event if facts.end else None
    usage = billable_usage(facts)
    return Settled(
        Bill(
            outcome=end.outcome if end else Outcome.ABANDONED,
            provider=start.provider if start else UNKNOWN,
            model=start.model if start else UNKNOWN,
            response_model=end.response_model if end else None,
            api_key_id=start.api_key_id if start else None,
            started_at=start.time if start else facts.last_event_at,
            ended_at=end.time if end else facts.last_event_at,
            usage=usage.usage,
            usage_source=usage.source,
            input_unknown=usage.input_unknown,
            cancel_policy=CancelPolicy.DELIVERED,
            rate_card_id=None,
            rated_model=None,
            retry_of=retry_of,
            resolution=action,
            lines=(),
        )
    )


def rerate_bill(*, facts: StreamFacts, booked: Bill, prices: PriceBook) -> Bill | None:
    """What a final stream's bill would be by these prices; None if they have no rate for it.

    An admin's decision and the link to a retried stream are kept.
    """
    if facts.start is None or booked.resolution is ResolutionAction.WRITE_OFF:
        return booked
    settlement = _bill(facts, facts.start.event, prices, retry_of=booked.retry_of)
    if isinstance(settlement, Backlog):
        return None
    return replace(settlement.bill, resolution=booked.resolution)


def accrue(*, facts: StreamFacts, prices: PriceBook) -> Bill | None:
    """What a stream that is not final would cost if it ended now; None if it has no start or no rate."""
    if facts.start is None:
        return None
    settlement = _bill(facts, facts.start.event, prices, silence=Outcome.COMPLETED)
    return settlement.bill if isinstance(settlement, Settled) else None


@dataclass(frozen=True, slots=True)
class _Terms:
    """The terms by which a stream is priced."""

    match: CardMatch | None
    cancel_policy: CancelPolicy
    cancel_policy_version: int
    markup_percent: Decimal


def _bill(
    facts: StreamFacts,
    start: StreamStart,
    prices: PriceBook,
    *,
    booked: Bill | None = None,
    retry_of: str | None = None,
    silence: Outcome = Outcome.ABANDONED,
) -> Settled | Backlog:
    """The bill; `silence` is the outcome of a stream without an end."""
    end = facts.end.event if facts.end else None
    outcome = end.outcome if end else silence
    usage = billable_usage(facts)
    rated_model = (end.response_model if end else None) or start.model
    answer_tier = end.service_tier if end else None
    service_tier = service_tier_of(usage=None, answer=answer_tier, request=start.service_tier)
    terms = _booked_terms(booked, start, rated_model, prices) or _terms(start, rated_model, prices)
    card = terms.match.card if terms.match else None
    lines: tuple[ChargeLine, ...] = ()
    if not usage.nothing and not terms.cancel_policy.waives(outcome):
        if card is None:
            why = prices.rates.explain(provider=start.provider, model=rated_model, at=start.time)
            return Backlog(
                State.UNPRICED, f"no rate for {start.provider}/{rated_model} at {start.time.isoformat()}: {why}"
            )
        try:
            lines = rate_by_card(
                usage=usage.usage,
                card=card,
                service_tier=service_tier,
                at=start.time,
                markup_percent=terms.markup_percent,
            )
        except RateMissingError as error:
            return Backlog(
                State.UNPRICED, f"rate card {card.rate_card_id} of {card.provider}/{card.model} has {error}"
            )
    return Settled(
        Bill(
            outcome=outcome,
            provider=start.provider,
            model=start.model,
            response_model=end.response_model if end else None,
            service_tier=service_tier,
            api_key_id=start.api_key_id,
            started_at=start.time,
            ended_at=end.time if end else facts.last_event_at,
            usage=usage.usage,
            usage_source=usage.source,
            input_unknown=usage.input_unknown,
            cancel_policy=terms.cancel_policy,
            cancel_policy_version=terms.cancel_policy_version,
            rate_card_id=card.rate_card_id if card else None,
            rated_model=card.model if card else None,
            model_rule=terms.match.rule if terms.match else None,
            markup_percent=terms.markup_percent,
            retry_of=retry_of,
            lines=lines,
        )
    )


def _terms(start: StreamStart, rated_model: str, prices: PriceBook) -> _Terms:
    """The terms in force when the stream starts."""
    match = prices.rates.find(
        customer_id=start.customer_id, provider=start.provider, model=rated_model, at=start.time
    )
    policy, version = prices.cancel_policies.find(provider=start.provider, at=start.time)
    # A customer's own card is the agreed price, and is not marked up.
    is_shared = match is not None and match.card.customer_id is None
    percent = prices.markups.find(customer_id=start.customer_id, at=start.time) if is_shared else ZERO
    return _Terms(match, policy, version, percent)


def _booked_terms(booked: Bill | None, start: StreamStart, rated_model: str, prices: PriceBook) -> _Terms | None:
    if booked is None or booked.rate_card_id is None:
        return None
    was = (booked.provider, booked.response_model or booked.model, booked.started_at)
    card = prices.rates.card(booked.rate_card_id)
    if card is None or was != (start.provider, rated_model, start.time):
        return None
    return _Terms(
        CardMatch(card, booked.model_rule or ""),
        booked.cancel_policy,
        booked.cancel_policy_version,
        booked.markup_percent,
    )


def _conflict_reason(facts: StreamFacts) -> str:
    which = [
        name for name, winner in (("start", facts.start), ("end", facts.end)) if winner and winner.conflicting
    ]
    return f"two {' and two '.join(f'stream-{name} events' for name in which)} contradict each other"
