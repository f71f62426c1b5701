"""The client that a gateway embeds to post its usage events: it never blocks and never raises.

It owns no clock and no counting: the gateway makes the events. Depends on httpx2 and the standard library.
"""

from metering.emitter.client import Emitter
from metering.emitter.counters import EmitterStats
from metering.emitter.spool import SpoolError

__all__ = ["Emitter", "EmitterStats", "SpoolError"]
