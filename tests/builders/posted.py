"""Events as gateways post them: the contract's JSON."""

from datetime import datetime, timedelta
from typing import Any

STARTED = "2026-11-23T15:00:00Z"


def event(kind: str, data: dict[str, Any], *, subject: str = "acme", **changes: Any) -> dict[str, Any]:
    """A CloudEvent of the contract."""
    return {
        "specversion": "1.0",
        "type": kind,
        "source": "/gateways/test",
        "id": f"{data.get('stream_id')}:{kind}:{data.get('seq', '')}",
        "subject": subject,
        "time": "2026-11-23T15:00:00.123Z",
        "data": data,
        **changes,
    }


def start(stream_id: str = "s", **changes: Any) -> dict[str, Any]:
    """A stream-start."""
    data = {"stream_id": stream_id, "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}
    return event("stream-start", {**data, **changes})


def delivered(stream_id: str = "s", tokens: int = 20, seq: int = 1) -> dict[str, Any]:
    """A token-delivered."""
    return event("token-delivered", {"stream_id": stream_id, "seq": seq, "output_tokens": tokens})


def end(stream_id: str = "s", output: int = 37, time: str = "2026-11-23T15:00:04.500Z") -> dict[str, Any]:
    """A stream-end."""
    data = {
        "stream_id": stream_id,
        "outcome": "cancelled",
        "usage": {"input_tokens": 812, "output_tokens": output},
        "usage_source": "gateway_count",
    }
    return event("stream-end", data, time=time)


def stream(
    stream_id: str, *, customer: str = "acme", outcome: str = "completed", **start: Any
) -> list[dict[str, Any]]:
    """812 tokens in, 37 out, at 5 and 25 USD a million: 0.4985 cents."""
    begun = start.pop("time", STARTED)
    ended = (datetime.fromisoformat(begun) + timedelta(seconds=4)).isoformat()
    usage = {"input_tokens": 812, "output_tokens": 37}
    first = {"stream_id": stream_id, "provider": "anthropic", "model": "claude-opus-4.7", **start}
    last = {"stream_id": stream_id, "outcome": outcome, "usage": usage, "usage_source": "provider"}
    return [
        event("stream-start", first, subject=customer, time=begun),
        event("stream-end", last, subject=customer, time=ended),
    ]


def rates(usd: str) -> list[dict[str, Any]]:
    """The rates of a card that costs the same for input and output."""
    return [{"kind": "input", "usd_per_million": usd}, {"kind": "output", "usd_per_million": usd}]
