"""The events on the wire (CloudEvents 1.0 in JSON), and their conversion to domain events.

msgspec checks types, bounds and required fields while it decodes. Unknown fields are ignored here and kept in
the journal. Absent fields are left out when an event is encoded again; `decode.py` relies on this.
"""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from metering.core.money import cents_text
from metering.events.events import (
    Inlet,
    Outcome,
    StreamEnd,
    StreamStart,
    TokenDelivered,
    UsageEvent,
    UsageSource,
)
from metering.events.usage import COUNTERS, Usage

# 2^53 - 1: the largest integer that every JSON reader represents exactly.
Count = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Note = Annotated[str, Meta(max_length=1024)]
Time = Annotated[datetime, Meta(tz=True)]
InletName = Literal["events", "litellm", "otlp", "openmeter", "access_log"]


class Seconds(Decimal):
    """A time in seconds: text with at most three decimal places, or an integer."""

    MAX = Decimal(10**9)
    PLACES = 3
    EXPECTED = 'expected seconds as text with at most three decimal places, such as "12.5"'


class Dollars(Decimal):
    """An amount in US dollars: text with at most 18 decimal places, or an integer."""

    MAX = Decimal(10**9)
    PLACES = 18
    EXPECTED = 'expected US dollars as text with at most 18 decimal places, such as "0.00125"'


def decimal_hook(kind: type, sent: object) -> Any:
    """Decode text as one of the decimals above, in its one spelling.

    Raises:
        ValueError: it is not text, or is out of bounds.
    """
    assert issubclass(kind, Seconds | Dollars)
    try:
        value = Decimal(sent) if isinstance(sent, str | int) and not isinstance(sent, bool) else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not 0 <= value <= kind.MAX or value != round(value, kind.PLACES):
        raise ValueError(kind.EXPECTED)
    return kind(cents_text(value))


# How the events are encoded again, for comparison with what was sent.
encode_events = msgspec.json.Encoder(enc_hook=str).encode


class StartData(Struct, frozen=True, gc=False, omit_defaults=True):
    """`data` of a stream-start."""

    stream_id: Id
    provider: Id
    model: Name
    streaming: bool | None = None
    operation: Name | None = None
    input_tokens: Count | None = None
    max_output_tokens: Count | None = None
    api_key_id: Id | None = None
    request_hash: Note | None = None
    service_tier: Note | None = None
    tags: Annotated[dict[Id, Note], Meta(max_length=16)] | None = None
    inlet: InletName | None = None
    failed_open: bool | None = None


class DeliveredData(Struct, frozen=True, gc=False, omit_defaults=True):
    """`data` of a token-delivered: cumulative counters."""

    stream_id: Id
    seq: Count
    output_tokens: Count
    reasoning_output_tokens: Count | None = None


class UsageData(Struct, frozen=True, gc=False, omit_defaults=True):
    """`data.usage` of a stream-end."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_write_input_tokens: Count | None = None
    reasoning_output_tokens: Count | None = None
    input_audio_tokens: Count | None = None
    output_audio_tokens: Count | None = None
    cache_write_1h_input_tokens: Count | None = None
    cache_read_input_audio_tokens: Count | None = None
    cache_read_input_image_tokens: Count | None = None
    input_image_tokens: Count | None = None
    input_video_tokens: Count | None = None
    output_image_tokens: Count | None = None
    output_video_tokens: Count | None = None
    citation_output_tokens: Count | None = None
    web_searches: Count | None = None
    storage_searches: Count | None = None
    input_audio_seconds: Seconds | None = None
    audio_seconds: Seconds | None = None
    input_characters: Count | None = None
    input_document_pages: Count | None = None
    input_annotated_document_pages: Count | None = None
    input_text_messages: Count | None = None
    service_tier: Note | None = None
    upstream_cost_usd: Dollars | None = None


class EndData(Struct, frozen=True, gc=False, omit_defaults=True):
    """`data` of a stream-end."""

    stream_id: Id
    outcome: Literal["completed", "cancelled", "failed", "timed_out"]
    usage: UsageData | None = None
    usage_source: Literal["provider", "gateway_count", "estimate"] | None = None
    # One a choice; the most choices that a provider takes is 128.
    finish_reasons: Annotated[list[Note], Meta(max_length=128)] | None = None
    response_provider: Id | None = None
    response_model: Name | None = None
    response_id: Note | None = None
    service_tier: Note | None = None
    error_type: Note | None = None
    inlet: InletName | None = None


class _CloudEvent(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True, tag_field="type"):
    specversion: Literal["1.0"]
    source: Name
    id: Annotated[str, Meta(min_length=1, max_length=512)]
    subject: Id
    time: Time
    # Not used, but many senders set it.
    datacontenttype: Any = None


class StartEvent(_CloudEvent, frozen=True, gc=False, kw_only=True, tag=StreamStart.EVENT_TYPE):
    """A stream-start on the wire."""

    data: StartData


class DeliveredEvent(_CloudEvent, frozen=True, gc=False, kw_only=True, tag=TokenDelivered.EVENT_TYPE):
    """A token-delivered on the wire."""

    data: DeliveredData


class EndEvent(_CloudEvent, frozen=True, gc=False, kw_only=True, tag=StreamEnd.EVENT_TYPE):
    """A stream-end on the wire."""

    data: EndData


_NOT_COUNTERS = ("service_tier", "upstream_cost_usd")
WireEvent = StartEvent | DeliveredEvent | EndEvent


def to_domain(event: WireEvent) -> UsageEvent:
    """Convert an event to its domain type."""
    if isinstance(event, DeliveredEvent):
        delivered = event.data
        return TokenDelivered(
            customer_id=event.subject,
            stream_id=delivered.stream_id,
            time=event.time,
            seq=delivered.seq,
            output_tokens=delivered.output_tokens,
            reasoning_output_tokens=delivered.reasoning_output_tokens,
        )
    if isinstance(event, StartEvent):
        return _start(event)
    return _end(event)


def _start(event: StartEvent) -> StreamStart:
    data = event.data
    return StreamStart(
        customer_id=event.subject,
        stream_id=data.stream_id,
        time=event.time,
        provider=data.provider,
        model=data.model,
        streaming=True if data.streaming is None else data.streaming,
        operation="chat" if data.operation is None else data.operation,
        input_tokens=data.input_tokens,
        max_output_tokens=data.max_output_tokens,
        api_key_id=data.api_key_id,
        request_hash=data.request_hash,
        service_tier=data.service_tier,
        tags=data.tags or {},
        inlet=Inlet.EVENTS if data.inlet is None else Inlet(data.inlet),
        failed_open=bool(data.failed_open),
    )


def _end(event: EndEvent) -> StreamEnd:
    data = event.data
    usage = data.usage
    cost = usage.upstream_cost_usd if usage is not None else None
    return StreamEnd(
        customer_id=event.subject,
        stream_id=data.stream_id,
        time=event.time,
        outcome=Outcome(data.outcome),
        usage=_usage(usage) if usage is not None else None,
        usage_source=UsageSource(data.usage_source) if data.usage_source is not None else None,
        finish_reasons=tuple(data.finish_reasons) if data.finish_reasons is not None else None,
        response_provider=data.response_provider,
        response_model=data.response_model,
        response_id=data.response_id,
        # The provider's usage names the tier that it bills; the rest of the answer may repeat what was asked for.
        service_tier=(usage.service_tier if usage is not None else None) or data.service_tier,
        error_type=data.error_type,
        upstream_cost_usd=None if cost is None else Decimal(cost),
        inlet=Inlet.EVENTS if data.inlet is None else Inlet(data.inlet),
    )


def _usage(data: UsageData) -> Usage:
    return Usage(
        input_tokens=data.input_tokens,
        output_tokens=data.output_tokens,
        cache_read_input_tokens=data.cache_read_input_tokens,
        cache_write_input_tokens=data.cache_write_input_tokens,
        reasoning_output_tokens=data.reasoning_output_tokens,
        input_audio_tokens=data.input_audio_tokens,
        output_audio_tokens=data.output_audio_tokens,
        cache_write_1h_input_tokens=data.cache_write_1h_input_tokens,
        cache_read_input_audio_tokens=data.cache_read_input_audio_tokens,
        cache_read_input_image_tokens=data.cache_read_input_image_tokens,
        input_image_tokens=data.input_image_tokens,
        input_video_tokens=data.input_video_tokens,
        output_image_tokens=data.output_image_tokens,
        output_video_tokens=data.output_video_tokens,
        citation_output_tokens=data.citation_output_tokens,
        web_searches=data.web_searches,
        storage_searches=data.storage_searches,
        input_audio_seconds=_plain(data.input_audio_seconds),
        audio_seconds=_plain(data.audio_seconds),
        input_characters=data.input_characters,
        input_document_pages=data.input_document_pages,
        input_annotated_document_pages=data.input_annotated_document_pages,
        input_text_messages=data.input_text_messages,
    )


_usage_values = attrgetter(*(field.name for field in fields(UsageData) if field.name not in _NOT_COUNTERS))
_NOTHING_KNOWN = (None,) * len(COUNTERS)


def has_no_counter(usage: UsageData) -> bool:
    """Whether no counter is known."""
    return _usage_values(usage) == _NOTHING_KNOWN


def _plain(seconds: Seconds | None) -> Decimal | None:
    return None if seconds is None else Decimal(seconds)
