"""The events on the wire (CloudEvents 1.0 in JSON), and their conversion to domain events.

msgspec checks types, bounds and required fields while it decodes. Unknown fields are ignored here and kept in
the journal. Absent fields are left out when an event is encoded again; `decode.py` relies on this.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageEvent, UsageSource
from metering.events.usage import Usage

# 2^53 - 1: the largest integer that every JSON reader represents exactly.
Count = Annotated[int, Meta(ge=0, le=9_007_199_254_740_991)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Note = Annotated[str, Meta(max_length=1024)]
Time = Annotated[datetime, Meta(tz=True)]


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


class EndData(Struct, frozen=True, gc=False, omit_defaults=True):
    """`data` of a stream-end."""

    stream_id: Id
    outcome: Literal["completed", "cancelled", "failed", "timed_out"]
    usage: UsageData | None = None
    usage_source: Literal["provider", "gateway_count", "estimate"] | None = None
    finish_reasons: list[Note] | None = None
    response_model: Name | None = None
    response_id: Note | None = None
    service_tier: Note | None = None
    error_type: Note | None = None


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
    )


def _end(event: EndEvent) -> StreamEnd:
    data = event.data
    return StreamEnd(
        customer_id=event.subject,
        stream_id=data.stream_id,
        time=event.time,
        outcome=Outcome(data.outcome),
        usage=_usage(data.usage) if data.usage is not None else None,
        usage_source=UsageSource(data.usage_source) if data.usage_source is not None else None,
        finish_reasons=tuple(data.finish_reasons) if data.finish_reasons is not None else None,
        response_model=data.response_model,
        response_id=data.response_id,
        service_tier=data.service_tier,
        error_type=data.error_type,
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
    )
