"""Settlement: decide from a stream's facts whether to wait, to leave it to a person, or to bill it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct, structs

from metering.events.events import Outcome, StreamStart
from metering.prices.price_book import PriceBook
from metering.streams.bill import Bill
from metering.streams.billing import UnmeasuredError, UnpricedError, make_bill, written_off
from metering.streams.resolutions import Resolution, ResolutionAction
from metering.streams.stream import StreamFacts


class State(StrEnum):
    """The state of a stream. Those from `ORPHANED` on need attention, or a fact that is missing."""

    OPEN = "open"
    ENDED = "ended"
    FINALIZED = "finalized"
    ORPHANED = "orphaned"
    UNPRICED = "unpriced"
    CONFLICTING = "conflicting"
    UNMEASURED = "unmeasured"
    MISDATED = "misdated"
    FAILED = "failed"


NEEDS_PERSON = (
    State.ORPHANED,
    State.UNPRICED,
    State.CONFLICTING,
    State.UNMEASURED,
    State.MISDATED,
    State.FAILED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTimes:
    """How long to wait for events before a stream is abandoned or orphaned, and how soon a repeat is a retry."""

    abandon_after: timedelta
    start_grace: timedelta
    retry_window: timedelta


class Wait(Struct, frozen=True, gc=False):
    """Nothing to do before `until`."""

    state: State
    until: datetime


class Backlog(Struct, frozen=True, gc=False):
    """Neither billed nor dropped until a person decides or the missing fact arrives."""

    state: State
    reason: str


class Settled(Struct, frozen=True, gc=False):
    """The facts result in this bill."""

    bill: Bill


Settlement = Wait | Backlog | Settled

_ARCHIVED = "an event arrived for an archived stream"


def left_to_restore(archive_id: str) -> Backlog:
    """For a stream whose other facts are in an archive: with the new ones alone, it cannot be billed again."""
    return Backlog(State.FAILED, f"{_ARCHIVED}: its other facts are in the archive {archive_id}")


def waits_for_archive(state: State, reason: str | None) -> bool:
    """Whether a stream waits for its archived facts."""
    return state is State.FAILED and (reason or "").startswith(_ARCHIVED)


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
    if facts.misdated:
        return Backlog(State.MISDATED, _misdated_reason(facts))
    return _billed(facts, facts.start.event, prices, booked=booked, retry_of=retry_of)


def _billed(
    facts: StreamFacts, start: StreamStart, prices: PriceBook, *, booked: Bill | None, retry_of: str | None
) -> Settled | Backlog:
    try:
        bill = make_bill(facts=facts, start=start, prices=prices, booked=booked, retry_of=retry_of)
    except UnmeasuredError as error:
        return Backlog(State.UNMEASURED, str(error))
    except UnpricedError as error:
        return Backlog(State.UNPRICED, str(error))
    return Settled(bill)


# The state of the backlog that each decision settles, beside a write-off, which settles all.
SETTLED_BY = {
    ResolutionAction.BILL_AS_IS: State.CONFLICTING,
    ResolutionAction.BILL_AS_RECEIVED: State.MISDATED,
}


def _resolve(
    backlog: Backlog,
    facts: StreamFacts,
    prices: PriceBook,
    booked: Bill | None,
    retry_of: str | None,
    action: ResolutionAction,
) -> Settlement:
    if action is not ResolutionAction.WRITE_OFF:
        if facts.start is None or backlog.state is not SETTLED_BY[action]:
            return backlog
        settlement = _billed(facts, facts.start.event, prices, booked=booked, retry_of=retry_of)
        if isinstance(settlement, Backlog):
            return settlement
        return Settled(structs.replace(settlement.bill, resolution=action))
    return Settled(written_off(facts=facts, retry_of=retry_of))


def rerate_bill(*, facts: StreamFacts, booked: Bill, prices: PriceBook) -> Bill | None:
    """What a final stream's bill would be by these prices; None if they have no rate for it.

    An admin's decision and the link to a retried stream are kept.
    """
    if facts.start is None or booked.resolution is ResolutionAction.WRITE_OFF:
        return booked
    try:
        bill = make_bill(facts=facts, start=facts.start.event, prices=prices, retry_of=booked.retry_of)
    except (UnpricedError, UnmeasuredError):
        return None
    return structs.replace(bill, resolution=booked.resolution)


def accrue(*, facts: StreamFacts, prices: PriceBook) -> Bill | None:
    """What a stream that is not final would cost if it ended now; None if it has no start or no rate."""
    if facts.start is None:
        return None
    try:
        return make_bill(facts=facts, start=facts.start.event, prices=prices, silence=Outcome.COMPLETED)
    except (UnpricedError, UnmeasuredError):
        return None


def _misdated_reason(facts: StreamFacts) -> str:
    named = [("stream-start", facts.start), ("stream-end", facts.end)]
    told = [
        f"the {name} is dated {winner.event.time.isoformat()}, and arrived at {winner.received_at.isoformat()}"
        for name, winner in named
        if winner is not None and winner.received_at is not None
    ]
    return f"{'; '.join(told)}: send it with its right time, or bill it by the time at which it arrived"


def _conflict_reason(facts: StreamFacts) -> str:
    which = [
        name for name, winner in (("start", facts.start), ("end", facts.end)) if winner and winner.conflicting
    ]
    return f"two {' and two '.join(f'stream-{name} events' for name in which)} contradict each other"
