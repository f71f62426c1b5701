"""Examine a stream of the backlog: its candidates, what each decision books, and a mark of what was seen.

A decision that carries the mark is refused if an event has arrived since, or if the price has changed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
from sqlalchemy import Connection

from metering.core.cursors import InvalidCursorError, decode_cursor, encode_cursor, time_part
from metering.core.errors import MeteringError
from metering.core.money import cents_text, dollars_text
from metering.corrections.candidates import Arrived, Candidate, candidates_of, estimate_in_backlog
from metering.corrections.queries import BacklogItem, get_backlog_item
from metering.events.queries import Arrival
from metering.events.read_stream_events import JournaledEvent, Position, read_stream_events
from metering.events.wire.decode import decode_json
from metering.events.wire.events import to_domain
from metering.prices.price_book import PriceBook
from metering.streams.resolutions import Resolution, ResolutionAction, fingerprints_of
from metering.streams.settlement import Backlog, Settled, State, WaitingTimes, settle
from metering.streams.store.streams import StoredStream
from metering.streams.stream import StreamFacts

# One read scans a limited part of the journal. What makes a conflict arrives early, or last.
_READS, _EVENTS = 5, 1_000
# Clocks of API processes differ.
_MARGIN = timedelta(minutes=5)
_MARKED = 6
_AMOUNT = r"|[0-9]{1,40}(\.[0-9]{1,40})?"


class StreamChangedError(MeteringError):
    """The stream has changed since it was examined; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A decision and what it books, in exact cents; None if the stream stays in the backlog."""

    action: ResolutionAction
    usd_cents: Decimal | None
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """A stream of the backlog with all that a decision needs.

    `version` marks what was seen. `complete` is False if the journal no longer has all of the stream's events, or
    has too many between the first and the last to read.
    """

    item: BacklogItem
    candidates: Sequence[Candidate]
    remedies: Sequence[Remedy]
    version: str
    complete: bool

    def remedy(self, action: ResolutionAction) -> Remedy | None:
        """What a decision books; None if it does not settle this stream."""
        return next((each for each in self.remedies if each.action is action), None)


def examine_stream(
    connection: Connection,
    *,
    customer_id: str,
    stream_id: str,
    prices: PriceBook,
    waits: WaitingTimes,
    now: datetime,
) -> Examination | None:
    """The examination of a stream; None if it is not in the backlog."""
    item = get_backlog_item(connection, customer_id=customer_id, stream_id=stream_id)
    if item is None:
        return None
    stream = item.stream
    arrived, complete = _read(connection, stream)
    return Examination(
        item=item,
        candidates=() if stream.state is State.FAILED else candidates_of(stream.facts, arrived, prices),
        remedies=[_remedy(stream, action, prices, waits, now) for action in item.actions],
        version=version_of(stream, prices),
        complete=complete,
    )


def _read(connection: Connection, stream: StoredStream) -> tuple[Sequence[Arrived], bool]:
    """The starts and ends of a stream in the journal, in order of arrival, and whether these are all."""
    found: list[Arrived] = []
    begin: Position | None = None
    last = Position(Arrival(stream.last_received_at - _MARGIN, 0), 0)
    for number in range(_READS + 1):
        if number == _READS and begin is not None:
            begin = max(begin, last)
        page = read_stream_events(
            connection,
            customer_id=stream.facts.customer_id,
            stream_id=stream.facts.stream_id,
            begin=begin,
            limit=_EVENTS,
        )
        if page is None:
            break
        found += _starts_and_ends(page.events)
        begin = page.next_position
        if begin is None or begin.arrival.received_at > stream.last_received_at + _MARGIN:
            return found, page.complete and number < _READS
    return found, False


def _starts_and_ends(events: Sequence[JournaledEvent]) -> Iterator[Arrived]:
    for each in events:
        if b'"token-delivered"' in each.event:
            continue
        for event in decode_json(each.event).events:
            yield Arrived(
                event=to_domain(event),
                received_at=each.position.arrival.received_at,
                source=_decode_source(each.event).source,
                ingest_key_id=each.ingest_key_id,
            )


class _Source(msgspec.Struct):
    source: str | None = None


_decode_source = msgspec.json.Decoder(_Source).decode


def _remedy(
    stream: StoredStream, action: ResolutionAction, prices: PriceBook, waits: WaitingTimes, now: datetime
) -> Remedy:
    """What the finalizer would do with this decision."""
    start, end = fingerprints_of(stream.facts)
    settlement = settle(
        facts=stream.facts,
        last_received_at=stream.last_received_at,
        now=now,
        waits=waits,
        prices=prices,
        resolution=Resolution(
            customer_id=stream.facts.customer_id,
            stream_id=stream.facts.stream_id,
            resolved_at=now,
            action=action,
            reason="",
            resolved_by="",
            start_fingerprint=start,
            end_fingerprint=end,
        ),
    )
    match settlement:
        case Settled(bill):
            return Remedy(action=action, usd_cents=bill.usd_cents, says=_SAYS[action])
        case Backlog(state, reason):
            says = f"Books nothing yet: the stream stays in the backlog as {state}, since {reason}."
        case _:
            says = "Books nothing yet: the stream waits for more events first."
    return Remedy(action=action, usd_cents=None, says=says)


_SAYS = {
    ResolutionAction.BILL_AS_IS: "Bills the start and the end that win: the earliest of those that contradict.",
    ResolutionAction.BILL_AS_RECEIVED: "Bills the usage as if it had happened when its events arrived.",
    ResolutionAction.WRITE_OFF: "Bills nothing: the stream is final and costs $0.00; its usage stays visible.",
}


def question(remedy: Remedy, *, stream_id: str, customer: str) -> str:
    """What a person is asked before a decision is recorded.

    >>> question(Remedy(action=ResolutionAction.BILL_AS_IS, usd_cents=Decimal(42), says=""), stream_id="s-1",
    ...     customer="Umbrella")
    'Book $0.42 for stream s-1 of Umbrella?'
    """
    if remedy.usd_cents is None:
        return f"Record the decision for stream {stream_id} of {customer}? {remedy.says}"
    amount = dollars_text(remedy.usd_cents)
    if remedy.action is ResolutionAction.WRITE_OFF:
        return f"Write off stream {stream_id} of {customer}, and book {amount}?"
    return f"Book {amount} for stream {stream_id} of {customer}?"


def version_of(stream: StoredStream, prices: PriceBook) -> str:
    """A mark of a stream's facts and of its price, opaque to clients."""
    return encode_cursor(_marks(stream, prices))


def _marks(stream: StoredStream, prices: PriceBook) -> list[str]:
    facts = stream.facts
    cost = estimate_in_backlog(facts, stream.state, prices).usd_cents
    start, end = facts.start, facts.end
    return [
        stream.state.value,
        f"{start.fingerprint} {start.conflicting}" if start else "",
        f"{end.fingerprint} {end.conflicting}" if end else "",
        _delivered(facts),
        "" if cost is None else cents_text(cost),
        time_part(stream.last_received_at),
    ]


def _delivered(facts: StreamFacts) -> str:
    counters = facts.delivered
    return "" if counters is None else f"{counters.output_tokens} output tokens (seq {counters.seq})"


def check_version(stream: StoredStream, version: str, prices: PriceBook) -> None:
    """Refuse a decision about something else than what is stored.

    Raises:
        StreamChangedError: an event has arrived since, or the price has changed.
    """
    try:
        seen = decode_cursor(version, length=_MARKED)
    except InvalidCursorError as error:
        raise StreamChangedError("version: not one of this stream; read it again") from error
    now = _marks(stream, prices)
    if seen is None or seen[0] not in set(State) or not re.fullmatch(_AMOUNT, seen[4]):
        raise StreamChangedError("version: not one of this stream; read it again")
    if seen == now:
        return
    changes = (
        (0, f"it was {seen[0]} and is now {now[0]}"),
        (1, "another stream-start has arrived"),
        (2, "another stream-end has arrived"),
        (3, f"delivered: {seen[3] or 'nothing'}, now {now[3] or 'nothing'}"),
        (4, f"it would have cost {_cost(seen[4])}, and now costs {_cost(now[4])}"),
    )
    said = [says for place, says in changes if seen[place] != now[place]]
    if not said:
        said = [f"an event arrived at {stream.last_received_at.isoformat(timespec='seconds')}"]
    raise StreamChangedError(f"the stream has changed since you looked: {'; '.join(said)}. Nothing was recorded")


def _cost(text: str) -> str:
    return dollars_text(Decimal(text)) if text else "an unknown amount"
