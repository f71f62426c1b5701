"""Resolutions: an admin's decision about a stream that no rule can settle, kept as a fact beside the gateway's."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.streams.stream import StreamFacts


class ResolutionAction(StrEnum):
    """What an admin can decide.

    `BILL_AS_IS`: the stream is billed by the start and end that win the merge, although others contradict them.
    `BILL_AS_RECEIVED`: a misdated stream is priced and filed by the time at which its events arrived.
    `WRITE_OFF`: the stream is final and costs nothing.
    """

    BILL_AS_IS = "bill_as_is"
    BILL_AS_RECEIVED = "bill_as_received"
    WRITE_OFF = "write_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A decision about a stream, with its reason. It holds while the stream's start and end are unchanged."""

    customer_id: str
    stream_id: str
    resolved_at: datetime
    action: ResolutionAction
    reason: str
    resolved_by: str
    start_fingerprint: int | None
    end_fingerprint: int | None

    def holds_for(self, facts: StreamFacts) -> bool:
        """Whether the decision was made about these facts."""
        return fingerprints_of(facts) == (self.start_fingerprint, self.end_fingerprint)


def fingerprints_of(facts: StreamFacts) -> tuple[int | None, int | None]:
    """The fingerprints of a stream's start and end; None for one that is missing."""
    start = facts.start.fingerprint if facts.start else None
    end = facts.end.fingerprint if facts.end else None
    return (start, end)
