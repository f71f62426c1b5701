"""The join of a request's wire events: the same result as `streams.stream.fold`, but faster.

Nine in ten events only count tokens, nearly always in order, so that the last one is enough. All other events go
through the ordinary join. A property test compares the two folds.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from metering.events.events import StreamEnd, StreamStart, UsageEvent, hash64
from metering.events.wire.events import DeliveredEvent, WireEvent, to_domain
from metering.streams.dating import EARLIEST, SKEWED
from metering.streams.stream import Delivered, StreamFacts, facts_of, join_all

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_canonical = msgspec.json.Encoder(order="deterministic").encode


def fold_wire(events: Iterable[WireEvent], *, received_at: datetime | None) -> dict[tuple[str, str], StreamFacts]:
    """The joined facts of each stream in events that arrived together, by (customer_id, stream_id).

    Without `received_at` their times are trusted.
    """
    earliest, latest = (_FIRST, _LAST) if received_at is None else (EARLIEST, received_at + SKEWED)
    counted: dict[tuple[str, str], DeliveredEvent] = {}
    rest: list[UsageEvent] = []
    for event in events:
        if type(event) is not DeliveredEvent:
            rest.append(to_domain(event))
            continue
        key = (event.subject, event.data.stream_id)
        known = counted.get(key)
        # What covers a plausible event is not dated before it, and at most as far ahead as the latest.
        plausible = event.time <= latest and (known is not None or earliest <= event.time)
        if plausible and (known is None or _covers(event, known)):
            counted[key] = event
        else:
            rest.append(to_domain(event))
    others = (facts_of(event, received_at=received_at, fingerprint=_fingerprint) for event in rest)
    return join_all([*others, *map(_counted_facts, counted.values())])


def _fingerprint(event: StreamStart | StreamEnd) -> int:
    """The same as `events.events.fingerprint`; msgspec encodes the same JSON faster."""
    return hash64(_canonical(event.attributes()))


def _counted_facts(event: DeliveredEvent) -> StreamFacts:
    data = event.data
    return StreamFacts(
        customer_id=event.subject,
        stream_id=data.stream_id,
        last_event_at=event.time,
        delivered=Delivered(data.seq, data.output_tokens, data.reasoning_output_tokens),
    )


def _covers(later: DeliveredEvent, known: DeliveredEvent) -> bool:
    """Whether `later` includes all that `known` says."""
    new, old = later.data, known.data
    return (
        new.seq >= old.seq
        and new.output_tokens >= old.output_tokens
        and later.time >= known.time
        and (
            old.reasoning_output_tokens is None
            or (
                new.reasoning_output_tokens is not None
                and new.reasoning_output_tokens >= old.reasoning_output_tokens
            )
        )
    )
