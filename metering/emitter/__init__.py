"""The client that a gateway embeds to post its usage events. `emit` never blocks and never raises.

The gateway makes the events: the emitter counts no tokens and sets no times. It needs only httpx2 and the standard
library. Start with `client.py`; `metering-emitter resend` is `resend.py`.
"""

from metering.emitter.client import Emitter
from metering.emitter.reports import EmitterStats
from metering.emitter.spool import SpoolError

__all__ = ["Emitter", "EmitterStats", "SpoolError"]
