"""Fields that the contract does not know: what their sender probably means by them.

Unknown fields are accepted and journaled, and told in the answer. A usage object of which no counter is known is
refused: the stream would be billed for nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import fields

from metering.events.wire.events import DeliveredData, EndData, StartData, UsageData
from metering.events.wire.rejections import shown_id

MAX_WARNINGS = 100

_ENVELOPE = frozenset({"specversion", "type", "source", "id", "subject", "time", "datacontenttype", "data"})
# Attributes that CloudEvents defines itself, or its extensions for tracing: senders' libraries add them.
_CLOUDEVENTS = frozenset({"dataschema", "traceparent", "tracestate", "sampledrate", "partitionkey", "sequence"})
_DATA: dict[str, type[Struct]] = {
    "stream-start": StartData,
    "token-delivered": DeliveredData,
    "stream-end": EndData,
}
_USAGE = frozenset(field.name for field in fields(UsageData))
_COUNTERS = _USAGE - {"service_tier", "upstream_cost_usd"}
# Names in use elsewhere, in lower case and without underscores.
_MEANT = {
    "prompttokens": "input_tokens",
    "promptn": "input_tokens",
    "prompttokencount": "input_tokens",
    "completiontokens": "output_tokens",
    "completionn": "output_tokens",
    "generatedtokens": "output_tokens",
    "candidatestokencount": "output_tokens",
    "cachedtokens": "cache_read_input_tokens",
    "cachereadtokens": "cache_read_input_tokens",
    "cachehittokens": "cache_read_input_tokens",
    "prompttokensdetails": "cache_read_input_tokens",
    "promptcachehittokens": "cache_read_input_tokens",
    "cachedcontenttokencount": "cache_read_input_tokens",
    "cachewritetokens": "cache_write_input_tokens",
    "cachecreationtokens": "cache_write_input_tokens",
    "cachecreationinputtokens": "cache_write_input_tokens",
    "reasoningtokens": "reasoning_output_tokens",
    "thinkingtokens": "reasoning_output_tokens",
    "thoughtstokencount": "reasoning_output_tokens",
    "completiontokensdetails": "reasoning_output_tokens",
    "audiotokens": "input_audio_tokens",
    "imagetokens": "input_image_tokens",
    "websearchrequests": "web_searches",
    "cost": "upstream_cost_usd",
    "costusd": "upstream_cost_usd",
    "seconds": "audio_seconds",
    "duration": "audio_seconds",
}


_UNKNOWN = "not a field of the contract: it is kept, and not used"
# Comparing a longer name with the known ones takes long, and finds none.
_MAX_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldWarning:
    """A field of an accepted event that the contract does not know: `field` is its path, such as `data.modle`."""

    index: int
    id: str | None
    field: str
    hint: str


def unknown_fields(index: int, event: Mapping[str, object]) -> Iterator[FieldWarning]:
    """A warning for each unknown field of an event in its untyped form."""
    event_id = shown_id(event.get("id"))
    for path, known, value in _objects(event):
        for name in value:
            if name not in known:
                field = f"{path}.{name[:_MAX_NAME]}".lstrip(".")
                yield FieldWarning(index=index, id=event_id, field=field, hint=_hint(name, known))


def _objects(event: Mapping[str, object]) -> Iterator[tuple[str, frozenset[str], Mapping[str, object]]]:
    yield "", _ENVELOPE | _CLOUDEVENTS, event
    data_type, data = _DATA.get(str(event.get("type"))), event.get("data")
    if data_type is None or not isinstance(data, Mapping):
        return
    yield "data", frozenset(field.name for field in fields(data_type)), data
    if data_type is EndData and isinstance(usage := data.get("usage"), Mapping):
        yield "data.usage", _USAGE, usage


def unknown_usage(event: Mapping[str, object]) -> str | None:
    """Why a stream-end is refused whose usage has fields, and no counter that is known; None if it is not."""
    data = event.get("data")
    usage = data.get("usage") if isinstance(data, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    unknown = [name for name in usage if name not in _USAGE]
    if not unknown or any(usage.get(name) is not None for name in _COUNTERS):
        return None
    told = "; ".join(f"{name[:_MAX_NAME]}: {_hint(name, _USAGE)}" for name in unknown[:4])
    return f"data.usage: no counter is known, and nothing would be billed ({told})"


@lru_cache(maxsize=1_000)
def _hint(name: str, known: frozenset[str]) -> str:
    if len(name) > _MAX_NAME:
        return _UNKNOWN
    plain = name.lower().replace("_", "")
    elsewhere = get_close_matches(plain, _MEANT, n=1, cutoff=0.85)
    if elsewhere and (meant := _MEANT[elsewhere[0]]) in known:
        return f"send it as {meant}"
    snake = "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")
    close = get_close_matches(snake, known, n=1, cutoff=0.75)
    if close:
        return f"did you mean {close[0]}?"
    return _UNKNOWN
