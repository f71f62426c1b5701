"""Settlement: from a stream's facts to what happens next: wait, ask a person, or bill."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from metering.domain.events import Outcome, StreamStart
from metering.domain.ledger import Bill, CancelPolicy
from metering.domain.rates import RateBook, RateCard
from metering.domain.rating import RateMissingError, rate_usage
from metering.domain.stream import StreamFacts, billable_usage


class State(StrEnum):
    """Where a stream is. The last three need a person, or a fact that is still to come."""

    OPEN = "open"
    ENDED = "ended"
    FINALIZED = "finalized"
    ORPHANED = "orphaned"
    UNPRICED = "unpriced"
    CONFLICTING = "conflicting"


NEEDS_PERSON = (State.ORPHANED, State.UNPRICED, State.CONFLICTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long silence is waited out before it counts as a fact."""

    abandon_after: timedelta
    start_grace: timedelta


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`."""

    state: State
    until: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """Never billed silently and never dropped: a person, or a missing fact, has to settle it."""

    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The facts amount to this bill."""

    bill: Bill


Settlement = Wait | Backlog | Settled


def settle(
    *,
    facts: StreamFacts,
    last_received_at: datetime,
    now: datetime,
    patience: Patience,
    rates: RateBook,
    booked: Bill | None = None,
) -> Settlement:
    """What the facts, and how long they have been silent, amount to at `now`.

    `booked` is the stream's newest bill. Its rate card stays in use while the stream's model and start are what
    they were: a card that was added since then does not alter what is booked.
    """
    if facts.end is None and now < last_received_at + patience.abandon_after:
        return Wait(State.OPEN, last_received_at + patience.abandon_after)
    if facts.conflicting:
        return Backlog(State.CONFLICTING, _conflict_reason(facts))
    if facts.start is None:
        if facts.end is not None and now < last_received_at + patience.start_grace:
            return Wait(State.ENDED, last_received_at + patience.start_grace)
        return Backlog(State.ORPHANED, "no stream-start arrived: send it, and the stream finalizes by itself")
    return _bill(facts, facts.start.event, rates, booked)


def accrue(*, facts: StreamFacts, rates: RateBook) -> Bill | None:
    """What a stream that is not final would cost if it ended now; None while that cannot be said."""
    if facts.start is None:
        return None
    settlement = _bill(facts, facts.start.event, rates, None)
    return settlement.bill if isinstance(settlement, Settled) else None


def _bill(facts: StreamFacts, start: StreamStart, rates: RateBook, booked: Bill | None) -> Settled | Backlog:
    end = facts.end.event if facts.end else None
    usage = billable_usage(facts)
    rated_model = (end.response_model if end else None) or start.model
    card = _booked_card(booked, start, rated_model, rates) or rates.find(
        provider=start.provider, model=rated_model, at=start.time
    )
    if card is None and not usage.nothing:
        return Backlog(State.UNPRICED, f"no rate for {start.provider}/{rated_model} at {start.time.isoformat()}")
    try:
        lines = rate_usage(usage=usage.usage, card=card) if card else ()
    except RateMissingError as error:
        return Backlog(State.UNPRICED, str(error))
    return Settled(
        Bill(
            outcome=end.outcome if end else Outcome.ABANDONED,
            provider=start.provider,
            model=start.model,
            response_model=end.response_model if end else None,
            api_key_id=start.api_key_id,
            started_at=start.time,
            ended_at=end.time if end else facts.last_event_at,
            usage=usage.usage,
            usage_source=usage.source,
            input_unknown=usage.input_unknown,
            cancel_policy=CancelPolicy.DELIVERED,
            rate_card_id=card.rate_card_id if card else None,
            rated_model=card.model if card else None,
            lines=lines,
        )
    )


def _booked_card(booked: Bill | None, start: StreamStart, model: str, rates: RateBook) -> RateCard | None:
    if booked is None or booked.rate_card_id is None:
        return None
    was = (booked.provider, booked.response_model or booked.model, booked.started_at)
    return rates.card(booked.rate_card_id) if was == (start.provider, model, start.time) else None


def _conflict_reason(facts: StreamFacts) -> str:
    which = [
        name for name, winner in (("start", facts.start), ("end", facts.end)) if winner and winner.conflicting
    ]
    return f"two {' and two '.join(f'stream-{name} events' for name in which)} contradict each other"
