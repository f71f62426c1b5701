"""Streams derived from the journal: the events of every request, decoded and folded again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from zstandard import ZstdError

from metering.audit.difference import Difference
from metering.audit.scratch import ScratchWriter
from metering.events.queries import JournaledRequest
from metering.events.store import stream_hashes
from metering.events.wire.decode import NDJSON, decode_json
from metering.events.wire.events import WireEvent
from metering.events.wire.replay import events_as_sent
from metering.events.wire.split import InvalidJsonError
from metering.streams.dating import is_plausible
from metering.streams.ingest.fold import fold_wire
from metering.streams.stream import StreamFacts, join

Key = tuple[str, str]

# Events are folded in groups of this size, because many belong to the same streams.
_EVENTS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JournaledStream:
    """A stream's facts from some requests, and when the first and the last of these arrived."""

    facts: StreamFacts
    first_received_at: datetime
    last_received_at: datetime


_decode = msgspec.msgpack.Decoder(JournaledStream).decode


def join_journaled(a: JournaledStream, b: JournaledStream) -> JournaledStream:
    """Both parts of the same stream as one."""
    return JournaledStream(
        facts=join(a.facts, b.facts),
        first_received_at=min(a.first_received_at, b.first_received_at),
        last_received_at=max(a.last_received_at, b.last_received_at),
    )


@dataclass(slots=True)
class JournalFold:
    """Folds requests into streams. `differences` are faults of the journal itself."""

    requests: int = 0
    events: int = 0
    differences: list[Difference] = field(default_factory=list)

    def streams(self, requests: Iterable[JournaledRequest]) -> Iterator[JournaledStream]:
        """The streams of the requests. A stream may come several times; `join_journaled` joins its parts."""
        events: list[WireEvent] = []
        arrivals: dict[Key, tuple[datetime, datetime]] = {}
        for request in requests:
            accepted = self._accepted(request)
            received_at = request.arrival.received_at
            keys = {(event.subject, event.data.stream_id) for event in accepted}
            self._check_hashes(request, keys)
            for key in keys:
                first, last = arrivals.get(key, (received_at, received_at))
                arrivals[key] = (min(first, received_at), max(last, received_at))
            doubtful = [event for event in accepted if not is_plausible(event.time, received_at=received_at)]
            if doubtful:
                accepted = [event for event in accepted if is_plausible(event.time, received_at=received_at)]
                yield from _fold(doubtful, arrivals, received_at=received_at)
            events += accepted
            self.requests += 1
            self.events += request.event_count
            if len(events) >= _EVENTS_AT_ONCE:
                yield from _fold(events, arrivals)
                events, arrivals = [], {}
        yield from _fold(events, arrivals)

    def _accepted(self, request: JournaledRequest) -> list[WireEvent]:
        """The events of a request that were accepted."""
        try:
            body = request.body()
            if request.rejected or request.media_type == NDJSON:
                sent = events_as_sent(body=body, media_type=request.media_type, rejected=request.rejected)
                body = b"[%s]" % b",".join(event for _, event in sent)
            decoded = decode_json(body)
        except (ZstdError, InvalidJsonError) as error:
            self._report(request, f"the body cannot be read: {error}")
            return []
        for rejection in decoded.rejections:
            self._report(request, f"an accepted event is not valid: {rejection.detail}")
        if decoded.count != request.event_count:
            self._report(request, f"event_count: stored {request.event_count}, derived {decoded.count}")
        return list(decoded.events)

    def _check_hashes(self, request: JournaledRequest, keys: set[Key]) -> None:
        stored = request.stream_hashes
        if stored is not None and not set(stream_hashes(keys)) <= set(stored):
            self._report(request, "stream_hashes: a hash is missing, so the events are not found by their stream")

    def _report(self, request: JournaledRequest, says: str) -> None:
        arrival = request.arrival
        key = f"{arrival.received_at.isoformat()} {arrival.journal_id}"
        self.differences.append(Difference("journal", key, says))


def write_journaled(scratch: ScratchWriter, fold: JournalFold, requests: Iterable[JournaledRequest]) -> None:
    """Fold requests, and add each stream to the scratch file of its part."""
    for stream in fold.streams(requests):
        scratch.add(stream.facts.customer_id, stream.facts.stream_id, msgspec.msgpack.encode(stream))


def join_records(records: Iterable[bytes]) -> dict[Key, JournaledStream]:
    """The streams of records that `write_journaled` wrote, each joined from all of its records."""
    found: dict[Key, JournaledStream] = {}
    for new in map(_decode, records):
        key = (new.facts.customer_id, new.facts.stream_id)
        known = found.get(key)
        found[key] = new if known is None else join_journaled(known, new)
    return found


def _fold(
    events: list[WireEvent],
    arrivals: dict[Key, tuple[datetime, datetime]],
    *,
    received_at: datetime | None = None,
) -> Iterator[JournaledStream]:
    for key, facts in fold_wire(events, received_at=received_at).items():
        first, last = arrivals[key]
        yield JournaledStream(facts=facts, first_received_at=first, last_received_at=last)
