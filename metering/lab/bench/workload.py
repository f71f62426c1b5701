"""What gateways post: overlapping streams of many customers and several models, as full CloudEvents.

A script is a sequence of request bodies, written before the clock starts. Each time it is played, its streams get
new ids, so that no request is a duplicate.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode

# Half of each stream id, which is a hex UUID as most gateways use; replaced each time a script is played.
_PLACEHOLDER = "0" * 16
_MODELS = (
    ("openai", "gpt-5.2"),
    ("openai", "gpt-5-mini"),
    ("anthropic", "claude-opus-4.7"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-3-pro-preview"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The traffic of one connection, which is one gateway with `open_streams` completions at a time.

    20 events per stream are a start, a count every 250 ms for four to five seconds, and an end.
    """

    events_per_request: int
    open_streams: int = 10
    events_per_stream: int = 20
    customers: int = 2_000


@dataclass(slots=True)
class _Stream:
    stream_id: str
    customer_id: str
    provider: str
    model: str
    input_tokens: int
    sent: int = 0


def write_script(workload: Workload, *, requests: int, seed: int) -> Sequence[bytes]:
    """The bodies of `requests` requests, JSON arrays, with placeholders for half of each stream id."""
    events = _events(workload, Random(seed))
    return [_encode([next(events) for _ in range(workload.events_per_request)]) for _ in range(requests)]


def play(script: Sequence[bytes], *, connection: int, turn: int) -> Iterator[bytes]:
    """The script's bodies with the stream ids of this turn, made one by one."""
    token = uuid.uuid5(uuid.NAMESPACE_OID, f"{connection}/{turn}").hex[:16].encode()
    return (body.replace(_PLACEHOLDER.encode(), token) for body in script)


def _events(workload: Workload, random: Random) -> Iterator[dict[str, Any]]:
    at = datetime(2026, 11, 23, 15, tzinfo=UTC)
    live: list[_Stream] = []
    while True:
        while len(live) < workload.open_streams:
            live.append(_new_stream(workload, random))
        at += timedelta(milliseconds=random.randrange(1, 50))
        stream = random.choice(live)
        yield _event(stream, workload, at, random)
        stream.sent += 1
        if stream.sent == workload.events_per_stream:
            live.remove(stream)


def _new_stream(workload: Workload, random: Random) -> _Stream:
    provider, model = random.choice(_MODELS)
    return _Stream(
        stream_id=_PLACEHOLDER + random.randbytes(8).hex(),
        # A tenth of the customers makes half of the traffic.
        customer_id=f"cust_{int(workload.customers * random.random() ** 3):06}",
        provider=provider,
        model=model,
        input_tokens=random.randrange(50, 8_000),
    )


def _event(stream: _Stream, workload: Workload, at: datetime, random: Random) -> dict[str, Any]:
    if stream.sent == 0:
        kind, suffix, data = "stream-start", "start", _start_data(stream, random)
    elif stream.sent == workload.events_per_stream - 1:
        kind, suffix, data = "stream-end", "end", _end_data(stream, random)
    else:
        kind, suffix = "token-delivered", f"t:{stream.sent}"
        data = {"seq": stream.sent, "output_tokens": stream.sent * 17}
    return {
        "specversion": "1.0",
        "type": kind,
        "source": "/gateways/eu-1",
        "id": f"{stream.stream_id}:{suffix}",
        "subject": stream.customer_id,
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {"stream_id": stream.stream_id, **data},
    }


def _start_data(stream: _Stream, random: Random) -> dict[str, Any]:
    return {
        "provider": stream.provider,
        "model": stream.model,
        "streaming": True,
        "input_tokens": stream.input_tokens,
        "max_output_tokens": 4_096,
        "api_key_id": f"{stream.customer_id}_key_{random.randrange(3)}",
        "request_hash": random.randbytes(16).hex(),
        "tags": {"team": random.choice(("search", "support", "coding"))},
    }


def _end_data(stream: _Stream, random: Random) -> dict[str, Any]:
    return {
        "outcome": random.choices(("completed", "cancelled"), (9, 1))[0],
        "usage": {
            "input_tokens": stream.input_tokens,
            "output_tokens": stream.sent * 17,
            "cache_read_input_tokens": stream.input_tokens // 3,
        },
        "usage_source": "provider",
        "finish_reasons": ["stop"],
        "response_model": stream.model,
        "response_id": f"resp_{random.randbytes(12).hex()}",
    }
