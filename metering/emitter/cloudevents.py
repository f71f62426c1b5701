"""Usage events as CloudEvents 1.0 JSON, one per line, and the removal of superfluous ones from a batch."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC

from metering.events.events import TokenDelivered, UsageEvent

# Made once: `json.dumps` with separators makes an encoder for each call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def encode_event(*, event: UsageEvent, source: str) -> bytes:
    """One line of JSON without its newline. ASCII only, so that a torn line never ends within a character."""
    time = event.time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    envelope = {
        "specversion": "1.0",
        "type": event.EVENT_TYPE,
        "source": source,
        "id": event.event_id,
        "subject": event.customer_id,
        "time": f"{time}Z",
        "data": {"stream_id": event.stream_id, **_data(event)},
    }
    return _encode(envelope).encode("ascii")


def _data(event: UsageEvent) -> dict[str, object]:
    data = dict(event.attributes())
    # On the wire it is a part of the usage, as upstreams report it.
    cost = data.pop("upstream_cost_usd", None)
    if cost is not None:
        usage = data.get("usage")
        data["usage"] = {**(usage if isinstance(usage, dict) else {}), "upstream_cost_usd": cost}
    return data


def coalesce(events: Iterable[UsageEvent]) -> list[UsageEvent]:
    """The batch with only the highest token-delivered event of each stream.

    The counters are cumulative and the server keeps the maximum of each, so nothing is lost. If neither of two
    events is at least as high in every counter, both are kept.
    """
    kept: list[UsageEvent] = []
    place: dict[tuple[str, str], int] = {}
    for event in events:
        if not isinstance(event, TokenDelivered):
            kept.append(event)
            continue
        key = (event.customer_id, event.stream_id)
        index = place.get(key)
        known = None if index is None else kept[index]
        if index is not None and isinstance(known, TokenDelivered) and _covers(event, known):
            kept[index] = event
        elif not (isinstance(known, TokenDelivered) and _covers(known, event)):
            place[key] = len(kept)
            kept.append(event)
    return kept


def json_array(lines: Sequence[bytes]) -> bytes:
    """The lines as one CloudEvents batch."""
    return b"[" + b",".join(lines) + b"]"


def _covers(a: TokenDelivered, b: TokenDelivered) -> bool:
    """Whether `a` makes `b` superfluous: no counter of `b` is higher, and `b` is not later."""
    return (
        a.seq >= b.seq
        and a.time >= b.time
        and a.output_tokens >= b.output_tokens
        and (a.reasoning_output_tokens or -1) >= (b.reasoning_output_tokens or -1)
    )
