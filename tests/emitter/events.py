"""Events to emit in tests."""

from datetime import UTC, datetime

from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered
from metering.events.usage import Usage

NOW = datetime(2026, 11, 23, 15, 0, 0, 123000, tzinfo=UTC)


def start(stream_id: str) -> StreamStart:
    return StreamStart(
        customer_id="acme", stream_id=stream_id, time=NOW, provider="anthropic", model="claude-opus-4.7"
    )


def delivered(stream_id: str, seq: int, output_tokens: int) -> TokenDelivered:
    return TokenDelivered(customer_id="acme", stream_id=stream_id, time=NOW, seq=seq, output_tokens=output_tokens)


def end(stream_id: str) -> StreamEnd:
    usage = Usage(input_tokens=3, output_tokens=7)
    return StreamEnd(customer_id="acme", stream_id=stream_id, time=NOW, outcome=Outcome.COMPLETED, usage=usage)
