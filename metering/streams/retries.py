"""Retries: a stream that asks anew for what was interrupted shortly before. Linked, never merged: both are billed.

The official SDKs repeat a whole request after a network error. The gateway tells that two requests are the same by
their `request_hash`; that alone links nothing, the first of them must have ended early.
"""

from dataclasses import dataclass
from datetime import datetime

from metering.events.events import Outcome, StreamStart, digest
from metering.streams.stream import StreamFacts

INTERRUPTED = frozenset({Outcome.CANCELLED, Outcome.FAILED, Outcome.ABANDONED})


# Totals keep it as text, like every other dimension.
RETRY, NO_RETRY = "true", "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """A stream that ended early, and may be retried."""

    customer_id: str
    stream_id: str
    request_key: int
    ended_at: datetime


def request_key_of(start: StreamStart) -> int | None:
    """A signed 64-bit digest of who asked for what; None when the gateway did not tell what was asked."""
    if start.request_hash is None:
        return None
    # NUL cannot occur in these, so they cannot run into each other.
    asked = "\0".join((start.customer_id, start.api_key_id or "", start.request_hash))
    return digest(asked.encode())


def interruption_of(facts: StreamFacts, *, request_key: int) -> Interruption | None:
    """The interruption that a stream is, if it is one. A stream without an end is taken as abandoned."""
    end = facts.end.event if facts.end else None
    if end is not None and end.outcome not in INTERRUPTED:
        return None
    return Interruption(
        customer_id=facts.customer_id,
        stream_id=facts.stream_id,
        request_key=request_key,
        ended_at=end.time if end else facts.last_event_at,
    )
