"""Compares a stored stream with the journal: its facts, its state and its bookings."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from metering.audit.bookings import PriceHistory, check_amounts, check_bills, settle_over
from metering.audit.difference import Claim, Difference, field_claims, stream_key, unequal
from metering.audit.journaled import JournaledStream
from metering.audit.queries.stored import AuditedStream
from metering.events.queries import CLOCK_MARGIN
from metering.prices.price_book import PriceBook
from metering.streams.retries import interruption_of, request_key_of
from metering.streams.settlement import NEEDS_PERSON, Backlog, State, waits_for_archive
from metering.streams.stream import join

# Each worker looks for changed prices before each batch, and then makes the unpriced streams due.
_WORKERS_SEE_PRICES = timedelta(minutes=5)


def is_pending(stored: AuditedStream, *, now: datetime) -> bool:
    """Whether the stream is due for the finalizer."""
    return stored.due_at is not None and stored.due_at <= now


def compare_stream(
    journaled: JournaledStream | None,
    stored: AuditedStream,
    *,
    history: PriceHistory,
    now: datetime,
    journal_from: datetime,
    has_request_at: Callable[[datetime], bool],
) -> Iterator[Difference]:
    """All differences of one stored stream.

    The journal no longer has what arrived before `journal_from`: for a stream that began earlier, the stored facts
    are taken as they are and joined with the journaled ones. `has_request_at` says whether the journal has a
    request of exactly that time.
    """
    yield from _check_facts(journaled, stored, journal_from)
    if journaled is not None:
        yield from _check_arrivals(journaled, stored, journal_from, has_request_at)
    yield from check_amounts(stored)
    by_facts = stored.state is State.FINALIZED and stored.due_at is None
    yield from check_bills(stored, history, by_facts=by_facts)
    yield from _check_state(stored, history, now)


def compare_late(
    journaled: JournaledStream | None,
    stored: AuditedStream,
    *,
    journal_from: datetime,
    has_request_at: Callable[[datetime], bool],
) -> Iterator[Difference]:
    """All differences of an archived stream to which events came since, without its archive.

    Nothing is booked by these events alone: the stream waits until it is restored.
    """
    yield from _check_facts(journaled, stored, journal_from)
    if journaled is not None:
        yield from _check_arrivals(journaled, stored, journal_from, has_request_at)
    if stored.due_at is None:
        key = stream_key(stored.facts.customer_id, stored.facts.stream_id)
        waits = waits_for_archive(stored.state, stored.state_reason)
        yield from unequal(
            "streams", key, [("waits for its archive", waits, True), ("revision", stored.revision, None)]
        )


def with_late_facts(archived: AuditedStream, late: AuditedStream) -> AuditedStream:
    """An archived stream with what came since, which is still to be billed."""
    return replace(
        archived,
        facts=join(archived.facts, late.facts),
        first_received_at=min(archived.first_received_at, late.first_received_at),
        last_received_at=max(archived.last_received_at, late.last_received_at),
        due_at=late.last_received_at,
    )


def _check_facts(
    journaled: JournaledStream | None, stored: AuditedStream, journal_from: datetime
) -> Iterator[Difference]:
    key = stream_key(stored.facts.customer_id, stored.facts.stream_id)
    is_complete = stored.first_received_at >= journal_from
    if journaled is None:
        if is_complete:
            yield Difference("streams", key, "the journal has no event of this stream")
        return
    derived = journaled.facts if is_complete else join(stored.facts, journaled.facts)
    yield from unequal("streams", key, field_claims(stored.facts, derived))


def _check_arrivals(
    journaled: JournaledStream,
    stored: AuditedStream,
    journal_from: datetime,
    has_request_at: Callable[[datetime], bool],
) -> Iterator[Difference]:
    """Differences in when the first and the last events arrived.

    Requests that were committed together share the first and the last arrival among them, and a request can wait
    for its commit as long as others do. Clocks of API processes differ. So a stored time is checked for two things
    only: no event is before the first, where it would not be found, and each is the arrival of some request.
    """
    key = stream_key(stored.facts.customer_id, stored.facts.stream_id)
    if stored.first_received_at >= journal_from:
        too_late = journaled.first_received_at < stored.first_received_at - CLOCK_MARGIN
        is_early = journaled.first_received_at > stored.first_received_at + CLOCK_MARGIN
        if too_late or (is_early and not has_request_at(stored.first_received_at)):
            claim = ("first_received_at", stored.first_received_at, journaled.first_received_at)
            yield from unequal("streams", key, [claim])
    # Events that repeat known facts are journaled and do not change `last_received_at`.
    is_late = stored.last_received_at > journaled.last_received_at + CLOCK_MARGIN
    is_unknown = is_late and not has_request_at(stored.last_received_at)
    if is_unknown or stored.last_received_at < stored.first_received_at:
        yield from unequal(
            "streams", key, [("last_received_at", stored.last_received_at, journaled.last_received_at)]
        )


def _check_state(stored: AuditedStream, history: PriceHistory, now: datetime) -> Iterator[Difference]:
    key, bills = stream_key(stored.facts.customer_id, stored.facts.stream_id), stored.bills
    claims: list[Claim] = [("revision", stored.revision, len(stored.adjustments) if bills else None)]
    newest = bills[-1] if bills else None
    match stored.state:
        case State.OPEN | State.ENDED:
            claims.append(("state", stored.state, State.ENDED if stored.facts.end else State.OPEN))
            claims.append(("is due at some time", stored.due_at is not None, True))
        case State.FINALIZED:
            claims.append(("state_reason", stored.state_reason, None))
            claims.append(("has a bill", newest is not None, True))
        case _ if stored.due_at is None:
            claims.append(("has a bill", newest is not None, False))
            claims += _backlog_claims(stored, history, now)
    if stored.state in (State.FINALIZED, *NEEDS_PERSON) and stored.due_at is None:
        yield from _check_interruption(stored, key)
    yield from unequal("streams", key, claims)


def _backlog_claims(stored: AuditedStream, history: PriceHistory, now: datetime) -> list[Claim]:
    """What the prices make of a stream that needs attention.

    A worker that has not yet seen the last change of a price has not yet looked at the unpriced streams again.
    """
    by_newest: list[Claim] | None = None
    for prices in history.since(now - _WORKERS_SEE_PRICES):
        claims = _claims_by(prices, stored)
        if all(found == derived for _, found, derived in claims):
            return []
        by_newest = by_newest or claims
    return by_newest or []


def _claims_by(prices: PriceBook, stored: AuditedStream) -> list[Claim]:
    bills = stored.bills
    settlement = settle_over(
        stored.facts,
        prices=prices,
        booked=bills[-1] if bills else None,
        retry_of=None,
        resolution=stored.resolution,
    )
    if isinstance(settlement, Backlog):
        return [
            ("state", stored.state, settlement.state),
            ("state_reason", stored.state_reason, settlement.reason),
        ]
    return [("state", stored.state, State.FINALIZED)]


def _check_interruption(stored: AuditedStream, key: str) -> Iterator[Difference]:
    """Differences in what the service would link a retry of this stream by."""
    start, known = stored.facts.start, stored.interruption
    request_key = request_key_of(start.event) if start else None
    derived = None if request_key is None else interruption_of(stored.facts, request_key=request_key)
    if derived is None:
        yield from unequal("interrupted_streams", key, [("interrupted", bool(known and known.interrupted), False)])
    elif known is None:
        yield Difference("interrupted_streams", key, "the stream ended early, and is not recorded here")
    else:
        claims: list[Claim] = [
            ("interrupted", known.interrupted, True),
            ("request_key", known.request_key, derived.request_key),
            ("ended_at", known.ended_at, derived.ended_at),
        ]
        yield from unequal("interrupted_streams", key, claims)
