"""A request that waits for its commit, and why it may not be committed."""

import asyncio
from dataclasses import dataclass, field

from metering.core.errors import MeteringError
from metering.events.store import JournalEntry
from metering.streams.ingest.statements import Statements
from metering.streams.stream import StreamFacts

StreamKey = tuple[str, str]


class QueueFullError(MeteringError):
    """The ingest queue of this process is full; the sender has to try again."""


class KeyQueueFullError(MeteringError):
    """This key has filled its share of the ingest queue; the sender has to try again."""


class NotCommittedError(MeteringError):
    """The events were not committed, or the commit was not confirmed; the sender has to send them again."""


@dataclass(slots=True, eq=False)
class Submission:
    """One request that waits for its commit; `done` is resolved once its events are durable.

    A large request has its `statements` ready, so that the event loop only sends them.
    """

    entry: JournalEntry
    streams: dict[StreamKey, StreamFacts]
    statements: Statements | None = None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
