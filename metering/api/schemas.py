"""Schemas that msgspec derives: the events that gateways post, the answer to them, and receipts."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from metering.api.events import Accepted
from metering.audit.receipt import Receipt
from metering.events.wire.events import DeliveredEvent, Dollars, EndEvent, Seconds, StartEvent

Schema = dict[str, Any]

_REF = "#/components/schemas/"
_EVENT_TYPES = {"stream-start": StartEvent, "token-delivered": DeliveredEvent, "stream-end": EndEvent}
_EVENT_NAMES = {
    "StartEvent": "StreamStart",
    "DeliveredEvent": "TokenDelivered",
    "EndEvent": "StreamEnd",
    "StartData": "StreamStartData",
    "DeliveredData": "TokenDeliveredData",
    "EndData": "StreamEndData",
    "UsageData": "ReportedUsage",
    "Accepted": "AcceptedEvents",
    "Rejection": "RejectedEvent",
    "FieldWarning": "UnknownField",
}

# By field, or by type and field where a field means something else there.
_DESCRIPTIONS: Mapping[str, str] = {
    "specversion": "The version of CloudEvents.",
    "type": "The type of the event.",
    "source": "The gateway instance, such as `/gateways/eu-1`.",
    "id": "Unique per event and source, and deterministic, such as `{stream_id}:start`, `{stream_id}:t:{seq}`.",
    "subject": "The customer who pays. An unknown one is created.",
    "time": "When it happened at the gateway, RFC 3339 with an offset.",
    "datacontenttype": "Accepted and ignored.",
    "data": "The content, by type.",
    "stream_id": "The stream, unique within its customer. One stream is one completion, streamed or not.",
    "provider": "The upstream provider, such as `anthropic`.",
    "model": "The requested model, such as `claude-opus-4.7`.",
    "streaming": "Whether the answer is streamed. Default: true.",
    "operation": "The kind of request. Default: `chat`.",
    "input_tokens": "Input tokens, cached and audio input included. Absent means unknown, which is not 0.",
    "max_output_tokens": "The limit that the request set for the output.",
    "api_key_id": "The customer's API key that was used; an id, never the key itself.",
    "request_hash": "A hash of the request. Streams with the same hash can be linked as retries.",
    "service_tier": "The service tier that was requested or, at the end, reported.",
    "tags": "Up to 16 tags of the customer's own.",
    "failed_open": "True: the gateway could not ask for a hold, and let the stream pass.",
    "stop": "Streams that have to end, because their sliding holds cannot be extended.",
    "seq": "Grows with each event of the stream.",
    "output_tokens": "Output tokens, reasoning and audio output included; cumulative in token-delivered.",
    "reasoning_output_tokens": "Reasoning tokens among the output tokens.",
    "cache_read_input_tokens": "Input tokens that were read from a prompt cache.",
    "cache_write_input_tokens": "Input tokens that were written to a prompt cache.",
    "input_audio_tokens": "Audio tokens among the input tokens.",
    "output_audio_tokens": "Audio tokens among the output tokens.",
    "cache_write_1h_input_tokens": "Those of the cache writes that the cache keeps for an hour.",
    "cache_read_input_audio_tokens": "Audio tokens among the cached input tokens; also among the audio tokens.",
    "cache_read_input_image_tokens": "Image tokens among the cached input tokens; also among the image tokens.",
    "input_image_tokens": "Image tokens among the input tokens.",
    "input_video_tokens": "Video tokens among the input tokens.",
    "output_image_tokens": "Image tokens among the output tokens.",
    "output_video_tokens": "Video tokens among the output tokens.",
    "citation_output_tokens": "Citation tokens among the output tokens.",
    "web_searches": "Searches of the web that the model made.",
    "storage_searches": "Searches of stored files that the model made.",
    "input_audio_seconds": "Seconds of audio input: text with at most three decimal places, or an integer.",
    "audio_seconds": "Seconds of audio, input and output: text with at most three decimal places, or an integer.",
    "input_characters": "Characters of the input, for models that are priced by them.",
    "input_document_pages": "Pages of the input's documents.",
    "input_annotated_document_pages": "Pages among these that were annotated.",
    "input_text_messages": "Text messages of the input, for models that are priced by them.",
    "upstream_cost_usd": "What the upstream says that the stream cost, in US dollars as text: kept beside ours.",
    "ReportedUsage.service_tier": "The service tier that the usage names; it goes before that of the answer.",
    "response_provider": "The provider that answered, where the gateway fell back to another one.",
    "warnings": "Fields of accepted events that are not known, of at most 100.",
    "field": "The path of the field, such as `data.usage.prompt_tokns`.",
    "hint": "What is probably meant.",
    "flags": "What a person should know of the bill, although it is final.",
    "price_source": "Where the price comes from: a rate card, or the upstream's own cost.",
    "upstream_usd_cents": "What the upstream says that the stream cost, in cents.",
    "usd_per_hour": "US dollars per hour of a kind in seconds, as a decimal string.",
    "clock_ahead_seconds": "By how much an event was dated ahead of its receipt, if over five minutes.",
    "start_received_at": "When the start arrived, if its own time is not believed.",
    "end_received_at": "When the end arrived, if its own time is not believed.",
    "outcome": "How it ended. `cancelled`: the client disconnected. `failed`: upstream or gateway error.",
    "usage": "The usage of the whole stream, where it is known.",
    "usage_source": "Who counted: the upstream (`provider`), a tokenizer (`gateway_count`), or an `estimate`.",
    "finish_reasons": "Why the upstream stopped, in its own words.",
    "response_model": "The model that answered, where the upstream named it. It is the one that is priced.",
    "response_id": "The upstream's id of the response.",
    "inlet": "How the usage came in, which says how much its sender can know. Default: `events`.",
    "error_type": "The kind of error that ended the stream.",
    "accepted": "How many events were accepted. They are durable: committed with fsync.",
    "rejected": "The rejected events. They do not affect the accepted ones.",
    "index": "The place of the event in the request, from 0.",
    "RejectedEvent.id": "The `id` of the event, where it has one.",
    "code": "One of invalid-field, missing-field, unknown-type, unknown-usage, invalid-event, invalid-json, "
    "duplicate-key, forbidden, too-large; of records in other formats, left-out.",
    "detail": "What is wrong, with the field, what was expected and what was sent.",
    "format": "The version of the receipt's format.",
    "customer_id": "The customer who pays.",
    "issued_at": "When the receipt was made.",
    "state": "The state of the stream.",
    "start": "The start that wins the merge.",
    "delivered": "The highest counters of the token-delivered events.",
    "end": "The end that wins the merge.",
    "last_event_at": "The time of the newest event.",
    "bill": "The newest bill; null where nothing may be billed.",
    "rate_card": "The rate card of the bill.",
    "resolution": "What an admin decided about the stream.",
    "entries": "The bookings: the charge first, then its adjustments.",
    "draws": "What grants paid of the bookings, and what they got back.",
    "grant_id": "The grant.",
    "entry_id": "The charge or the adjustment that it is for.",
    "ReceiptDraw.usd_cents": "Exact cents: below 0 the grant paid, above 0 it got this back.",
    "left_usd_cents": "What was left of the grant after that, in exact cents.",
    "usd_cents": "Exact US cents as a decimal string.",
    "invoice": "The number of the invoice; null until there is one.",
    "ReceiptEntry.id": "The id of the charge or of the adjustment.",
    "booked_at": "When it was booked.",
    "period": "The billing month that it counts for.",
    "reason": "Why.",
    "note": "What the admin wrote.",
    "started_at": "When the stream started.",
    "ended_at": "When the stream ended.",
    "input_unknown": "True if the input was not reported; it counts as 0.",
    "cancel_policy": "The provider's cancel policy that applied.",
    "cancel_policy_version": "The version of that policy; 0 is the default.",
    "rate_card_id": "The id of the rate card, which follows from its content.",
    "rated_model": "The model whose rates applied.",
    "model_rule": "How the model's name led to the rate card.",
    "markup_percent": "The customer's markup, which the rates of the lines include.",
    "retry_of": "The stream that this one retries, where one was found.",
    "lines": "What the amount is made of.",
    "kind": "What is counted.",
    "quantity": "Units of this kind; nested kinds are taken out of their parent.",
    "usd_per_million": "US dollars per million units, as a decimal string.",
    "card": "The rate card itself.",
    "provenance": "Where its prices come from.",
    "created_at": "When it was added.",
    "effective_from": "The start time of the first stream that it applies to.",
    "rates": "Its rates.",
    "names": "Which model names it is for.",
    "position": "Its place among the provider's cards.",
    "above_input_tokens": "Only for requests with more input tokens than this.",
    "daily": "Only for this part of the day and the week.",
    "ReceiptDailyWindow.start": "From this time of day on, UTC.",
    "ReceiptDailyWindow.end": "Until this time of day, UTC.",
    "weekdays": "Only on these days of the week in UTC; empty for every day.",
    "action": "What was decided.",
    "resolved_by": "Who decided it.",
    "resolved_at": "When it was decided.",
    "start_fingerprint": "Identifies the start that it was decided for.",
    "end_fingerprint": "Identifies the end that it was decided for.",
}


def derived_schemas() -> dict[str, Schema]:
    """The components for events, for the answer to them, and for receipts."""
    _, wire = msgspec.json.schema_components(
        (*_EVENT_TYPES.values(), Accepted), ref_template=f"{_REF}{{name}}", schema_hook=_decimal_schema
    )
    _, receipt = msgspec.json.schema_components((Receipt,), ref_template=f"{_REF}{{name}}")
    events = _renamed(wire, _EVENT_NAMES)
    # Enumerations have one name in all answers.
    plain = {name for name, schema in receipt.items() if "enum" in schema or name.startswith("Receipt")}
    receipts = _renamed(receipt, {name: name if name in plain else f"Receipt{name}" for name in receipt})
    for name, schema in (events | receipts).items():
        _describe(name, schema)
    for schema in receipts.values():
        _complete(schema)
    return {**events, **receipts, "Event": _event()}


def _decimal_schema(kind: type) -> Schema:
    """Decimals that are sent as text."""
    if kind is Seconds:
        return {"type": ["string", "integer"], "pattern": r"^\d+(\.\d{1,3})?$", "examples": ["12.5"]}
    if kind is Dollars:
        return {"type": ["string", "integer"], "pattern": r"^\d+(\.\d{1,18})?$", "examples": ["0.00125"]}
    raise TypeError(f"{kind.__name__} has no schema")


def _event() -> Schema:
    refs = {name: f"{_REF}{_EVENT_NAMES[kind.__name__]}" for name, kind in _EVENT_TYPES.items()}
    return {
        "title": "Event",
        "description": "A usage event: CloudEvents 1.0. Unknown fields are stored and otherwise ignored.",
        "oneOf": [{"$ref": ref} for ref in refs.values()],
        "discriminator": {"propertyName": "type", "mapping": refs},
    }


def _renamed(schemas: Mapping[str, Schema], names: Mapping[str, str]) -> dict[str, Schema]:
    text = msgspec.json.encode(schemas).decode()
    text = re.sub(rf'"{_REF}(\w+)"', lambda found: f'"{_REF}{names[found[1]]}"', text)
    return {names[name]: {**schema, "title": names[name]} for name, schema in msgspec.json.decode(text).items()}


def _describe(name: str, schema: Schema) -> None:
    """Describe each field, and leave out those that a record keeps for itself."""
    schema["description"] = inspect.cleandoc(schema["description"])
    properties: dict[str, Schema] = schema.get("properties", {})
    for field, value in list(properties.items()):
        del properties[field]
        if field.startswith("_"):
            continue
        value.pop("default", None)  # absent, which is not the same as null
        if len(allowed := value.get("enum", ())) == 1:
            value = {"type": "string", "const": allowed[0]}
        properties[field] = {**value, "description": _DESCRIPTIONS.get(f"{name}.{field}") or _DESCRIPTIONS[field]}


def _complete(schema: Schema) -> None:
    """A receipt has every field, and msgspec writes its times with their offset."""
    properties: dict[str, Schema] = schema.get("properties", {})
    if properties:
        schema["required"] = list(properties)
    for field, value in properties.items():
        if field.endswith("_at") or field in ("time", "effective_from"):
            for choice in value.get("anyOf", [value]):
                if choice["type"] == "string":
                    choice["format"] = "date-time"
