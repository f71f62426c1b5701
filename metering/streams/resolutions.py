"""Resolutions: what an admin decides of a stream that no rule can settle; a new fact beside the gateway's."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.streams.stream import StreamFacts


class ResolutionAction(StrEnum):
    """`BILL_AS_IS`: the start and the end that win the merge count, although others contradict them.
    `WRITE_OFF`: the stream is final and costs nothing."""

    BILL_AS_IS = "bill_as_is"
    WRITE_OFF = "write_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A decision about a stream, with its reason, for as long as its start and its end are what they were."""

    customer_id: str
    stream_id: str
    resolved_at: datetime
    action: ResolutionAction
    reason: str
    resolved_by: str
    start_fingerprint: int | None
    end_fingerprint: int | None

    def holds_for(self, facts: StreamFacts) -> bool:
        """Whether it was made of these facts."""
        return fingerprints_of(facts) == (self.start_fingerprint, self.end_fingerprint)


def fingerprints_of(facts: StreamFacts) -> tuple[int | None, int | None]:
    """What tells a stream's start and end from others."""
    start = facts.start.fingerprint if facts.start else None
    end = facts.end.fingerprint if facts.end else None
    return (start, end)
