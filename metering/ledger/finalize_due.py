"""Finalize: claim the due streams, settle them and book their bills, batch by batch.

The stream's row is the unit of work, so it does no harm to run this twice, in parallel or late. A batch that fails
is halved and tried again, so that a stream that cannot be finalized is found, set aside, and holds up no other.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from metering.db.engine import transaction, will_pass
from metering.ledger.finalize_batch import BatchWork, finalize_batch
from metering.prices.price_book import PriceBook
from metering.prices.store.book import PriceBooks
from metering.streams.settlement import State, WaitingTimes
from metering.streams.store.due import Claim, claim_due, claim_key, claim_stream, set_aside, wake_unpriced

log = logging.getLogger(__name__)

# A stream that failed is tried again this often: a newer release, or a mended row, may finalize it.
FAILED_WAIT = timedelta(minutes=15)
# A customer with more than a third of a batch crowds it.
_CROWDING_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeResult:
    """What one run did. `states` counts the claimed streams by their new state.

    `crowding` names the customers that filled a full batch among them, so that others may have to wait. `is_full`:
    more streams may be due.
    """

    claimed: int
    charged: int
    adjusted: int
    states: Mapping[State, int]
    crowding: Sequence[str] = ()
    is_full: bool = False


_NOTHING_DUE = FinalizeResult(claimed=0, charged=0, adjusted=0, states={})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the batches of one run have in common."""

    engine: Engine
    prices: PriceBook
    waits: WaitingTimes
    now: datetime
    newest_first: bool
    without: Sequence[str]


def finalize_due(
    *,
    engine: Engine,
    price_books: PriceBooks,
    waits: WaitingTimes,
    now: datetime,
    limit: int,
    newest_first: bool = False,
    without: Sequence[str] = (),
) -> FinalizeResult:
    """Claim up to `limit` due streams; book each, postpone it, or put it in the backlog.

    Streams that are locked by another finalizer are skipped, and those of customers in `without`. A stream that
    alone fails with an unexpected error goes into the backlog as failed, and is due again after `FAILED_WAIT`.
    """
    run = _Run(
        engine=engine,
        prices=_current_prices(engine, price_books, now),
        waits=waits,
        now=now,
        newest_first=newest_first,
        without=without,
    )
    return _isolating_failures(run, limit)


def _current_prices(engine: Engine, price_books: PriceBooks, now: datetime) -> PriceBook:
    """The price book. When it has changed, unpriced streams become due."""
    with transaction(engine) as connection:
        prices = price_books.current(connection)
        version = price_books.version_to_wake()
        if version is not None:
            wake_unpriced(connection, now=now)
    if version is not None:
        price_books.mark_woken(version)
    return prices


def _isolating_failures(run: _Run, limit: int) -> FinalizeResult:
    """Finalize a batch; if it fails, each of its halves."""
    if limit == 1:
        return _finalize_one(run)
    try:
        return _finalize(run, limit)
    except Exception as error:
        # Whatever it is, it must not hold up the streams that it is not about.
        if will_pass(error):
            raise
        log.warning("a batch failed, trying its halves", extra={"limit": limit, "error": _told(error)})
    half = limit // 2
    return _sum(_isolating_failures(run, half), _isolating_failures(run, limit - half))


def _finalize(run: _Run, limit: int) -> FinalizeResult:
    with transaction(run.engine) as connection:
        claim = claim_due(connection, now=run.now, limit=limit, newest_first=run.newest_first, without=run.without)
        if not claim.streams:
            return _NOTHING_DUE
        work = finalize_batch(connection, claim.streams, prices=run.prices, waits=run.waits, now=run.now)
    return _result(claim, work)


def _finalize_one(run: _Run) -> FinalizeResult:
    """Finalize one due stream, or set it aside: both while the same lock is held."""
    with transaction(run.engine) as connection:
        key = claim_key(connection, now=run.now, newest_first=run.newest_first, without=run.without)
        if key is None:
            return _NOTHING_DUE
        customer_id, stream_id = key
        try:
            with connection.begin_nested():
                claim = claim_stream(connection, customer_id=customer_id, stream_id=stream_id)
                work = finalize_batch(connection, claim.streams, prices=run.prices, waits=run.waits, now=run.now)
        except Exception as error:
            if will_pass(error):
                raise
            log.exception("stream set aside", extra={"customer_id": customer_id, "stream_id": stream_id})
            reason = (
                f"finalizing failed unexpectedly ({type(error).__name__}): the log of the worker has the details; "
                f"it is tried again every {FAILED_WAIT // timedelta(minutes=1)} minutes"
            )
            due_at = run.now + FAILED_WAIT
            set_aside(connection, customer_id=customer_id, stream_id=stream_id, reason=reason, due_at=due_at)
            return FinalizeResult(claimed=1, charged=0, adjusted=0, states={State.FAILED: 1}, is_full=True)
    return _result(claim, work)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _sum(one: FinalizeResult, other: FinalizeResult) -> FinalizeResult:
    return FinalizeResult(
        claimed=one.claimed + other.claimed,
        charged=one.charged + other.charged,
        adjusted=one.adjusted + other.adjusted,
        states=Counter(one.states) + Counter(other.states),
        is_full=other.is_full,
    )


def _result(claim: Claim, work: BatchWork) -> FinalizeResult:
    claimed = len(claim.streams)
    counted = Counter(each.facts.customer_id for each in claim.streams if claim.is_full)
    return FinalizeResult(
        claimed=claimed,
        charged=len(work.charges),
        adjusted=len(work.adjustments),
        states=Counter(mark.state for mark in work.marks),
        crowding=[customer_id for customer_id, streams in counted.items() if streams * _CROWDING_PARTS > claimed],
        is_full=claim.is_full,
    )
