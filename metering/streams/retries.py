"""Retries: streams that repeat a request that ended early shortly before. Linked, never merged: both are billed.

The official SDKs repeat a whole request after a network error. Gateways send the same `request_hash` for the same
request. That alone does not link two streams: the first of them must have ended early.
"""

from dataclasses import dataclass
from datetime import datetime

from metering.events.events import Outcome, StreamStart, hash64
from metering.streams.stream import StreamFacts

INTERRUPTED = frozenset({Outcome.CANCELLED, Outcome.FAILED, Outcome.ABANDONED})

# Totals store this as text, like every other dimension.
RETRY, NO_RETRY = "true", "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """A stream that ended early and can be retried."""

    customer_id: str
    stream_id: str
    request_key: int
    ended_at: datetime


def request_key_of(start: StreamStart) -> int | None:
    """A signed 64-bit hash of customer, API key and request; None if the gateway sent no `request_hash`."""
    if start.request_hash is None:
        return None
    # None of these contains NUL, so different requests never make the same text.
    request = "\0".join((start.customer_id, start.api_key_id or "", start.request_hash))
    return hash64(request.encode())


def interruption_of(facts: StreamFacts, *, request_key: int) -> Interruption | None:
    """The interruption, if the stream ended early; None otherwise. A stream without an end counts as abandoned."""
    end = facts.end.event if facts.end else None
    if end is not None and end.outcome not in INTERRUPTED:
        return None
    return Interruption(
        customer_id=facts.customer_id,
        stream_id=facts.stream_id,
        request_key=request_key,
        ended_at=facts.ended_at,
    )
