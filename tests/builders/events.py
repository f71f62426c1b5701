"""The events of a stream, as the emitter and the store take them."""

from datetime import UTC, datetime, timedelta

from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageSource
from metering.events.usage import Usage

NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
T0 = datetime(2026, 11, 23, 15, tzinfo=UTC)


def start(stream_id: str = "s", **changes: object) -> StreamStart:
    given = {
        "customer_id": "acme",
        "time": T0,
        "provider": "anthropic",
        "model": "claude-opus-4.7",
        "input_tokens": 812,
        **changes,
    }
    return StreamStart(stream_id=stream_id, **given)  # type: ignore[arg-type]


def end(stream_id: str = "s", output: int = 37, **changes: object) -> StreamEnd:
    given = {
        "customer_id": "acme",
        "time": T0 + timedelta(seconds=4),
        "outcome": Outcome.COMPLETED,
        "usage": Usage(input_tokens=812, output_tokens=output),
        "usage_source": UsageSource.GATEWAY_COUNT,
        **changes,
    }
    return StreamEnd(stream_id=stream_id, **given)  # type: ignore[arg-type]


def delivered(stream_id: str = "s", tokens: int = 20, *, seq: int = 1, **changes: object) -> TokenDelivered:
    given = {"customer_id": "acme", "time": T0 + timedelta(seconds=2), **changes}
    return TokenDelivered(stream_id=stream_id, seq=seq, output_tokens=tokens, **given)  # type: ignore[arg-type]
