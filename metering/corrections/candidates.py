"""Candidates: what a stream of the backlog would be billed for, by each start and end that came in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import product

from msgspec import structs

from metering.core.money import sum_cents
from metering.events.events import StreamEnd, StreamStart, UsageEvent
from metering.events.usage import Usage
from metering.prices.price_book import PriceBook
from metering.prices.rating import RateMissingError, rate_by_card
from metering.streams.bill import Bill
from metering.streams.billing import UnmeasuredError, UnpricedError, make_bill
from metering.streams.settlement import State
from metering.streams.stream import BillableUsage, StreamFacts, Winner, billable_usage, facts_of

# Two contradict each other; a gateway that makes a mistake with each attempt sends more.
_MOST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A start or an end as it arrived: when and how often, its CloudEvents `source`, and the key that sent it."""

    event: UsageEvent
    received_at: datetime
    source: str | None
    ingest_key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One of the starts, or of the ends, of a stream. Those with the same content are one, `times` received.

    Where the journal has it no longer, it is not known when and from where it came.
    """

    event: StreamStart | StreamEnd
    wins: bool
    received_at: datetime | None = None
    source: str | None = None
    ingest_key_id: str | None = None
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What facts cost in exact cents; None where no price or no usage is known.

    `at_most` is then the cost by the highest rate that the model has had, if it has had one. `problem` says what
    is missing.
    """

    usd_cents: Decimal | None = None
    at_most: Decimal | None = None
    problem: str | None = None
    bill: Bill | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A start and an end that may be the stream's, with what they bill. The one that `wins` is billed as it is."""

    start: Fact | None
    end: Fact | None
    wins: bool
    billable: BillableUsage
    estimate: Estimate


_Known = tuple[Winner[StreamStart] | Winner[StreamEnd], Fact]


def candidates_of(facts: StreamFacts, arrived: Iterable[Arrived], prices: PriceBook) -> Sequence[Candidate]:
    """The candidates of a stream, the one that wins first; one for each start with each end."""
    found: dict[tuple[type, int], _Known] = {}
    for winner in (facts.start, facts.end):
        if winner is not None:
            found[type(winner.event), winner.fingerprint] = (winner, Fact(event=winner.event, wins=True))
    known: set[tuple[type, int]] = set()
    for each in arrived:
        own = facts_of(each.event, received_at=each.received_at)
        winner = own.start or own.end
        if winner is None or not _contends(facts, winner):
            continue
        key = (type(winner.event), winner.fingerprint)
        if key in known:
            kept, fact = found[key]
            found[key] = (kept, _again(fact))
            continue
        known.add(key)
        kept, fact = found.get(key, (winner, Fact(event=winner.event, wins=False)))
        found[key] = (kept, _arrived(fact, each))
    none: list[_Known | None] = [None]
    starts = [each for each in found.values() if isinstance(each[1].event, StreamStart)]
    ends = [each for each in found.values() if isinstance(each[1].event, StreamEnd)]
    pairs = list(product(starts or none, ends or none))[:_MOST]
    return [_candidate(facts, start, end, prices) for start, end in pairs]


def _contends(facts: StreamFacts, winner: Winner[StreamStart] | Winner[StreamEnd]) -> bool:
    """Whether a start or an end has the rank of the one that wins; others are overruled and contradict nothing."""
    won = facts.start if isinstance(winner.event, StreamStart) else facts.end
    return won is not None and winner.rank == won.rank


def _arrived(fact: Fact, each: Arrived) -> Fact:
    return Fact(
        event=fact.event,
        wins=fact.wins,
        received_at=each.received_at,
        source=each.source,
        ingest_key_id=each.ingest_key_id,
    )


def _again(fact: Fact) -> Fact:
    return Fact(
        event=fact.event,
        wins=fact.wins,
        received_at=fact.received_at,
        source=fact.source,
        ingest_key_id=fact.ingest_key_id,
        times=fact.times + 1,
    )


def _candidate(facts: StreamFacts, start: _Known | None, end: _Known | None, prices: PriceBook) -> Candidate:
    alone = structs.replace(
        facts,
        start=structs.replace(start[0], conflicting=False) if start else None,
        end=structs.replace(end[0], conflicting=False) if end else None,
    )
    return Candidate(
        start=start[1] if start else None,
        end=end[1] if end else None,
        wins=all(each is None or each[1].wins for each in (start, end)),
        billable=billable_usage(alone),
        estimate=estimate(alone, prices),
    )


def estimate(facts: StreamFacts, prices: PriceBook) -> Estimate:
    """What facts would cost by the prices and the cancel policy of the stream's time."""
    start = facts.start
    if start is None:
        return Estimate(problem="the model is not known without the stream-start")
    try:
        bill = make_bill(facts=facts, start=start.event, prices=prices)
    except UnmeasuredError:
        return Estimate(problem="its usage is not known")
    except UnpricedError as error:
        return Estimate(at_most=_at_most(facts, start.event, prices), problem=str(error))
    return Estimate(usd_cents=bill.usd_cents, bill=bill)


def estimate_in_backlog(facts: StreamFacts, state: State, prices: PriceBook) -> Estimate:
    """The same for a stream of the backlog, by the start and the end that win."""
    if state is State.FAILED:
        # What its finalizing fails by may fail here as well.
        return Estimate(problem="its cost cannot be calculated")
    return estimate(facts, prices)


def _at_most(facts: StreamFacts, start: StreamStart, prices: PriceBook) -> Decimal | None:
    """The cost by the highest rates that the model has had at any time; None if it has had none."""
    end = facts.end.event if facts.end else None
    started_at = facts.start.at if facts.start else start.time
    usage: Usage = billable_usage(facts).usage
    markup = prices.markups.find(customer_id=start.customer_id, at=started_at)
    costs = []
    for card in prices.rates.history(
        provider=(end.response_provider if end else None) or start.provider,
        model=(end.response_model if end else None) or start.model,
    ):
        try:
            rated = rate_by_card(
                usage=usage,
                card=card,
                service_tier=(end.service_tier if end else None) or start.service_tier,
                at=started_at,
                markup_percent=markup,
            )
        except RateMissingError:
            continue
        costs.append(sum_cents(line.usd_cents for line in rated.lines))
    return max(costs, default=None)
