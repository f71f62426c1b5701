"""A stream's facts, joined: the merge that makes order, duplication and batching of events irrelevant.

`join` is commutative, associative and idempotent, so any number of partial folds, in any order, give the
same `StreamFacts`. `streams/store/streams.py` has the same join in SQL; a property test compares the two.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from metering.events.events import (
    StreamEnd,
    StreamStart,
    TokenDelivered,
    UsageEvent,
    UsageSource,
    fingerprint,
)
from metering.events.usage import Usage

EventT = TypeVar("EventT", StreamStart, StreamEnd)

# The lower rank wins: the provider's count, then a tokenizer's, then an estimate, then a count without a source.
SOURCE_RANK: dict[UsageSource | None, int] = {
    UsageSource.PROVIDER: 0,
    UsageSource.GATEWAY_COUNT: 1,
    UsageSource.ESTIMATE: 2,
    None: 3,
}


@dataclass(frozen=True, slots=True)
class Winner(Generic[EventT]):
    """The start (or end) that wins the merge; `conflicting` if another one of the same rank differs."""

    event: EventT
    fingerprint: int
    conflicting: bool = False

    @property
    def rank(self) -> int:
        """The lower rank wins; all starts have the same rank."""
        return SOURCE_RANK[self.event.usage_source] if isinstance(self.event, StreamEnd) else 0


@dataclass(frozen=True, slots=True)
class Delivered:
    """The highest counters seen while streaming."""

    seq: int
    output_tokens: int
    reasoning_output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """The joined events of one stream, independent of their order."""

    customer_id: str
    stream_id: str
    last_event_at: datetime
    start: Winner[StreamStart] | None = None
    delivered: Delivered | None = None
    end: Winner[StreamEnd] | None = None

    @property
    def conflicting(self) -> bool:
        """Whether two starts, or two ends of the same rank, contradict each other."""
        start, end = self.start, self.end
        return (start is not None and start.conflicting) or (end is not None and end.conflicting)


def facts_of(
    event: UsageEvent, *, fingerprint: Callable[[StreamStart | StreamEnd], int] = fingerprint
) -> StreamFacts:
    """The facts of one event. A caller can pass a faster function for the same fingerprint."""
    match event:
        case StreamStart():
            return StreamFacts(
                customer_id=event.customer_id,
                stream_id=event.stream_id,
                last_event_at=event.time,
                start=Winner(event, fingerprint(event)),
            )
        case TokenDelivered():
            return StreamFacts(
                customer_id=event.customer_id,
                stream_id=event.stream_id,
                last_event_at=event.time,
                delivered=Delivered(event.seq, event.output_tokens, event.reasoning_output_tokens),
            )
        case StreamEnd():
            return StreamFacts(
                customer_id=event.customer_id,
                stream_id=event.stream_id,
                last_event_at=event.time,
                end=Winner(event, fingerprint(event)),
            )


def join(a: StreamFacts, b: StreamFacts) -> StreamFacts:
    """The facts of both; `a` and `b` are of the same stream."""
    return StreamFacts(
        customer_id=a.customer_id,
        stream_id=a.stream_id,
        last_event_at=max(a.last_event_at, b.last_event_at),
        start=_join_winners(a.start, b.start),
        delivered=_join_delivered(a.delivered, b.delivered),
        end=_join_winners(a.end, b.end),
    )


def join_all(parts: Iterable[StreamFacts]) -> dict[tuple[str, str], StreamFacts]:
    """The joined facts of each stream, by (customer_id, stream_id)."""
    streams: dict[tuple[str, str], StreamFacts] = {}
    for facts in parts:
        key = (facts.customer_id, facts.stream_id)
        known = streams.get(key)
        streams[key] = facts if known is None else join(known, facts)
    return streams


def fold(events: Iterable[UsageEvent]) -> dict[tuple[str, str], StreamFacts]:
    """The joined facts of each stream in the events, by (customer_id, stream_id)."""
    return join_all(map(facts_of, events))


def _join_winners(a: Winner[EventT] | None, b: Winner[EventT] | None) -> Winner[EventT] | None:
    if a is None or b is None:
        return a or b
    if a.rank != b.rank:
        return a if a.rank < b.rank else b
    first = min(a, b, key=lambda winner: (winner.event.time, winner.fingerprint))
    conflicting = a.conflicting or b.conflicting or a.fingerprint != b.fingerprint
    return Winner(first.event, first.fingerprint, conflicting)


def _join_delivered(a: Delivered | None, b: Delivered | None) -> Delivered | None:
    if a is None or b is None:
        return a or b
    return Delivered(
        seq=max(a.seq, b.seq),
        output_tokens=max(a.output_tokens, b.output_tokens),
        reasoning_output_tokens=_max_known(a.reasoning_output_tokens, b.reasoning_output_tokens),
    )


def _max_known(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillableUsage:
    """What a stream is billed for, and who counted it. `nothing`: nothing is billed, whatever the price."""

    usage: Usage
    source: UsageSource
    input_unknown: bool = False
    nothing: bool = False


NOTHING_DELIVERED = Usage(input_tokens=0, output_tokens=0)


def billable_usage(facts: StreamFacts) -> BillableUsage:
    """The end's usage; counters that it lacks come from the delivered counters and the start's input.

    A stream that delivered nothing and whose provider reported no usage is billed nothing, not even its input.
    Without an end, or with an end without a source, the counters are an estimate.
    """
    end = facts.end.event if facts.end else None
    reported = (end.usage if end else None) or Usage()
    source = (end.usage_source if end else None) or UsageSource.ESTIMATE
    delivered = facts.delivered
    usage = reported.filled(
        input_tokens=facts.start.event.input_tokens if facts.start else None,
        output_tokens=delivered.output_tokens if delivered else None,
        reasoning_output_tokens=delivered.reasoning_output_tokens if delivered else None,
    )
    delivered_something = usage.output_tokens or usage.reasoning_output_tokens or usage.output_audio_tokens
    if not delivered_something and not (source is UsageSource.PROVIDER and reported != Usage()):
        return BillableUsage(usage=NOTHING_DELIVERED, source=source, nothing=True)
    return BillableUsage(usage=usage, source=source, input_unknown=usage.input_tokens is None)
