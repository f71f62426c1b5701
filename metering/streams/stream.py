"""A stream's facts, joined: the merge that makes order, duplication and batching of events irrelevant.

`join` is commutative, associative and idempotent, so any number of partial folds, in any order, give the
same `StreamFacts`. `streams/store/streams.py` has the same join in SQL; a property test compares the two.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from msgspec import Struct, structs

from metering.events.events import (
    Inlet,
    Outcome,
    StreamEnd,
    StreamStart,
    TokenDelivered,
    UsageEvent,
    UsageSource,
    fingerprint,
)
from metering.events.nesting import read_usage
from metering.events.usage import Usage
from metering.streams.dating import is_misdated, is_plausible, seconds_ahead

EventT = TypeVar("EventT", StreamStart, StreamEnd)

# The lower rank wins: the provider's count, then a tokenizer's, then an estimate, then a count without a source.
SOURCE_RANK: dict[UsageSource | None, int] = {
    UsageSource.PROVIDER: 0,
    UsageSource.GATEWAY_COUNT: 1,
    UsageSource.ESTIMATE: 2,
    None: 3,
}


class Winner(Struct, Generic[EventT], frozen=True, gc=False):
    """The start (or end) that wins the merge; `conflicting` if another one of the same rank differs.

    `received_at` is known only if the time of the event is not trusted: when the event arrived.
    """

    event: EventT
    fingerprint: int
    conflicting: bool = False
    received_at: datetime | None = None

    @property
    def at(self) -> datetime:
        """When it happened, as far as known: the event's time, or its receipt if that time is not trusted."""
        return self.received_at or self.event.time

    @property
    def rank(self) -> int:
        """The lower rank wins; all starts have the same rank."""
        return SOURCE_RANK[self.event.usage_source] if isinstance(self.event, StreamEnd) else 0


class Delivered(Struct, frozen=True, gc=False):
    """The highest counters seen while streaming."""

    seq: int
    output_tokens: int
    reasoning_output_tokens: int | None = None


class StreamFacts(Struct, frozen=True, gc=False, kw_only=True):
    """The joined events of one stream, independent of their order.

    `clock_ahead_seconds` is by how much an event's time was ahead of its receipt, if that was over five minutes.
    """

    customer_id: str
    stream_id: str
    last_event_at: datetime
    start: Winner[StreamStart] | None = None
    delivered: Delivered | None = None
    end: Winner[StreamEnd] | None = None
    clock_ahead_seconds: int | None = None

    @property
    def ended_at(self) -> datetime:
        """When the stream ended, as far as known."""
        return self.end.at if self.end else self.last_event_at

    @property
    def inlet(self) -> Inlet:
        """How the usage came in: as the end says, or else the start."""
        winner = self.end or self.start
        return winner.event.inlet if winner else Inlet.EVENTS

    @property
    def misdated(self) -> bool:
        """Whether the time of the start or of the end is not trusted."""
        start, end = self.start, self.end
        return (start is not None and start.received_at is not None) or (
            end is not None and end.received_at is not None
        )

    @property
    def conflicting(self) -> bool:
        """Whether two starts, or two ends of the same rank, contradict each other."""
        start, end = self.start, self.end
        return (start is not None and start.conflicting) or (end is not None and end.conflicting)


def facts_of(
    event: UsageEvent,
    *,
    received_at: datetime | None = None,
    fingerprint: Callable[[StreamStart | StreamEnd], int] = fingerprint,
) -> StreamFacts:
    """The facts of one event. Without `received_at` its time is trusted.

    A caller can pass a faster function for the same fingerprint.
    """
    misdated_at, ahead = None, None
    if received_at is not None and not is_plausible(event.time, received_at=received_at):
        misdated_at = received_at if is_misdated(event.time, received_at=received_at) else None
        ahead = seconds_ahead(event.time, received_at=received_at)
    start: Winner[StreamStart] | None = None
    delivered: Delivered | None = None
    end: Winner[StreamEnd] | None = None
    match event:
        case StreamStart():
            start = Winner(event, fingerprint(event), received_at=misdated_at)
        case TokenDelivered():
            delivered = Delivered(event.seq, event.output_tokens, event.reasoning_output_tokens)
        case StreamEnd():
            end = Winner(event, fingerprint(event), received_at=misdated_at)
    return StreamFacts(
        customer_id=event.customer_id,
        stream_id=event.stream_id,
        last_event_at=misdated_at or event.time,
        start=start,
        delivered=delivered,
        end=end,
        clock_ahead_seconds=ahead,
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
        clock_ahead_seconds=_max_known(a.clock_ahead_seconds, b.clock_ahead_seconds),
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
    first = min(a, b, key=_precedence)
    conflicting = a.conflicting or b.conflicting or a.fingerprint != b.fingerprint
    return Winner(first.event, first.fingerprint, conflicting, first.received_at)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _precedence(winner: Winner[EventT]) -> tuple[bool, datetime, int, datetime]:
    """The least wins: a time that is trusted, then the earliest one."""
    misdated_at = winner.received_at
    return (misdated_at is not None, winner.event.time, winner.fingerprint, misdated_at or _NEVER)


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


class BillableUsage(Struct, frozen=True, gc=False):
    """What a stream is billed for, and who counted it.

    `nothing`: nothing is billed, whatever the price. `unmeasured`: it completed, and nothing is known of what it
    used. `faults` says which counters contradict each other, and how they are read.
    """

    usage: Usage
    source: UsageSource
    input_unknown: bool = False
    output_unknown: bool = False
    nothing: bool = False
    unmeasured: bool = False
    faults: tuple[str, ...] = ()


NO_USAGE = Usage()
NOTHING_DELIVERED = Usage(input_tokens=0, output_tokens=0)
_NO_OUTPUT = frozenset({"embeddings", "moderation", "rerank"})


def billable_usage(facts: StreamFacts) -> BillableUsage:
    """The end's usage; counters that it lacks come from the delivered counters and the start's input.

    A stream that did not complete, delivered nothing and whose provider reported no usage is billed nothing, not
    even its input. Without an end, or with an end without a source, the counters are an estimate.
    """
    end = facts.end.event if facts.end else None
    start = facts.start.event if facts.start else None
    reported = (end.usage if end else None) or NO_USAGE
    source = (end.usage_source if end else None) or UsageSource.ESTIMATE
    delivered = facts.delivered
    usage = reported.filled(
        input_tokens=start.input_tokens if start else None,
        output_tokens=delivered.output_tokens if delivered else None,
        reasoning_output_tokens=delivered.reasoning_output_tokens if delivered else None,
    )
    faults: tuple[str, ...] = ()
    if not usage.output_tokens and delivered and delivered.output_tokens and not _has_output(usage):
        # A count of 0 for output that was seen is no count.
        faults = (f"output_tokens 0, though {delivered.output_tokens} were delivered: read as these",)
        usage = structs.replace(usage, output_tokens=delivered.output_tokens)
        source = max(source, UsageSource.GATEWAY_COUNT, key=lambda each: SOURCE_RANK[each])
    completed = end is not None and end.outcome is Outcome.COMPLETED
    if not _has_output(usage):
        if not completed and not (source is UsageSource.PROVIDER and reported != NO_USAGE):
            return BillableUsage(usage=NOTHING_DELIVERED, source=source, nothing=True)
        if completed and usage.input_tokens is None and reported == NO_USAGE:
            return BillableUsage(usage=usage, source=source, unmeasured=True)
    reading = read_usage(usage)
    return BillableUsage(
        usage=reading.usage,
        source=source,
        input_unknown=usage.input_tokens is None and not _is_measured_otherwise(usage),
        output_unknown=completed
        and usage.output_tokens is None
        and not (start and start.operation in _NO_OUTPUT)
        and not (_has_output(usage) or _is_measured_otherwise(usage)),
        faults=faults + reading.faults if faults else reading.faults,
    )


def _has_output(usage: Usage) -> bool:
    return bool(
        usage.output_tokens
        or usage.reasoning_output_tokens
        or usage.output_audio_tokens
        or usage.output_image_tokens
        or usage.output_video_tokens
        or usage.citation_output_tokens
    )


def _is_measured_otherwise(usage: Usage) -> bool:
    """Whether the work is measured in something else than tokens."""
    return any(
        (
            usage.audio_seconds,
            usage.input_audio_seconds,
            usage.input_characters,
            usage.input_document_pages,
            usage.input_annotated_document_pages,
            usage.input_text_messages,
        )
    )
