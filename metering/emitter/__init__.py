"""The client that a gateway embeds to meter its streams. `emit` never blocks and never raises.

Start with `Emitter.stream`, which gives a context manager for one stream; or make the events, and `emit` them.
With `hold`, a stream asks for money first (`hold.py`, `holds.py`), and may have to stop (`stops.py`).

It needs httpx2 and msgspec. With the extra `count` it counts tokens with OpenAI's vocabularies, else it estimates.
"""

from metering.emitter.client import Emitter
from metering.emitter.events import StreamEnd, StreamStart, TokenDelivered, Usage
from metering.emitter.hold import Hold, HoldRefused, HoldRequest, HoldSettings, HoldUnavailable, PriceUnknown
from metering.emitter.holds import HoldStats
from metering.emitter.reports import EmitterStats
from metering.emitter.spool import SpoolError
from metering.emitter.stream import MeteredStream, usage_of
from metering.events.events import Outcome, UsageSource

__all__ = [
    "Emitter",
    "EmitterStats",
    "Hold",
    "HoldRefused",
    "HoldRequest",
    "HoldSettings",
    "HoldStats",
    "HoldUnavailable",
    "MeteredStream",
    "Outcome",
    "PriceUnknown",
    "SpoolError",
    "StreamEnd",
    "StreamStart",
    "TokenDelivered",
    "Usage",
    "UsageSource",
    "usage_of",
]
