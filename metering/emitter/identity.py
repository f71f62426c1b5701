"""What is known of a stream at its start, and the time of its events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from metering.events.events import Inlet


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """The facts about a stream that are known at its start. `input_tokens` is None if they were not counted."""

    customer_id: str
    stream_id: str
    provider: str
    model: str
    streaming: bool
    input_tokens: int | None
    input_exact: bool
    operation: str = "chat"
    input_characters: int | None = None
    max_output_tokens: int | None = None
    api_key_id: str | None = None
    request_hash: str | None = None
    service_tier: str | None = None
    tags: Mapping[str, str]
    inlet: Inlet = Inlet.EVENTS
    choices: int = 1
    """The number of answers that the request asks for."""


class StreamClock:
    """The time of day at the start, plus the time since then: no event of a stream is before its start.

    `elapsed` gives seconds that no change of the system's clock touches.
    """

    def __init__(self, *, began: datetime, elapsed: Callable[[], float]) -> None:
        self._began = began
        self._elapsed = elapsed
        self._zero = elapsed()

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self._elapsed() - self._zero)
