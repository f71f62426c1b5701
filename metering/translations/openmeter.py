"""OpenMeter's usage events, which Kong's plugin posts, too: CloudEvents that count the tokens of a completion.

An event counts one side of a completion, or several kinds of usage. What it counts is declared by its type
(`openmeter_types.py`). The fields of the envelope: OpenMeter's `Event` in its api/openapi.yaml, and Kong's
`MeteringEvent` in api-specs/konnect/metering-and-billing/v3/openapi.yaml of Kong/developer.konghq.com.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from metering.answers.usage import read_count
from metering.events.events import Inlet, UsageSource
from metering.events.usage import Usage
from metering.translations.completions import (
    Completion,
    Sender,
    identifier,
    name_of,
    stream_id_of,
    time_of,
)
from metering.translations.fields import id_of, shown, text_at, value_at
from metering.translations.openmeter_types import OpenMeterTypes, TypeMapping
from metering.translations.translated import LeftOut, Translated, TranslatedEvent

_SOURCE = "/openmeter"
# What counters nest in.
_WITHIN = {"input": "input_tokens", "output": "output_tokens"}


class _UnusableError(ValueError):
    """An event that no usage can be read of; the message says which field, and the fix."""


def translate_openmeter(documents: list[Any], *, types: OpenMeterTypes, sender: Sender) -> Translated:
    """The usage events of a request. Those of types without tokens are passed over."""
    events: list[TranslatedEvent] = []
    left_out: list[LeftOut] = []
    for record, document in enumerate(documents):
        try:
            events += _translate(record, document, types, sender)
        except _UnusableError as error:
            left_out.append(LeftOut(record=record, id=id_of(document, "id"), detail=str(error)))
    return Translated(events=events, left_out=left_out)


def _translate(record: int, document: Any, types: OpenMeterTypes, sender: Sender) -> list[TranslatedEvent]:
    if not isinstance(document, dict):
        raise _UnusableError("expected a CloudEvent as an object")
    type_ = document.get("type")
    if type_ in types.ignored:
        return []
    mapping = types.types.get(type_) if isinstance(type_, str) else None
    if mapping is None:
        raise _UnusableError(
            f"type: {shown(type_)} is not declared: declare it in METERING_OPENMETER_TYPES, or as ignored"
        )
    data = document.get("data")
    if not isinstance(data, dict):
        raise _UnusableError("data: expected an object with the tokens")
    counts = _counts(data, mapping)
    completion = _completion(document, data, mapping, types, sender)
    # An event by `kinds` counts one kind of usage; other events report the rest.
    side = next(iter(counts)) if mapping.kinds else ""
    joined = next((found for path in mapping.stream if (found := text_at(data, path))), None)
    if joined is not None and side in ("", *_WITHIN.values()):
        completion = replace(completion, stream_id=stream_id_of(Inlet.OPENMETER, joined), usage=Usage(**counts))
        return _part(record, completion, side)
    own_id = text_at(document, "id")
    if own_id is None:
        raise _UnusableError("id: missing: give each event an id of its own, which stays when it is sent again")
    own = stream_id_of(Inlet.OPENMETER, own_id, text_at(document, "source"), side)
    return list(replace(completion, stream_id=own, usage=_whole(counts, side)).events(record))


def _part(record: int, completion: Completion, side: str) -> list[TranslatedEvent]:
    """The events of a completion that several usage events share: input at its start, output at its end.

    They may arrive in any order and in any batches, because neither contradicts the other.
    """
    if side == "input_tokens" and completion.usage is not None:
        start = completion.start(input_tokens=completion.usage.input_tokens)
        return [TranslatedEvent(record=record, event=start)]
    if side == "output_tokens":
        return [TranslatedEvent(record=record, event=completion.end())]
    return list(completion.events(record))


def _counts(data: Mapping[str, Any], mapping: TypeMapping) -> dict[str, Any]:
    """The counters that an event reports; at least one."""
    if mapping.counters:
        found = {
            counter: _count(data, field)
            for field, counter in mapping.counters.items()
            if value_at(data, field) is not None
        }
        if not found:
            raise _UnusableError(f"data: expected a count in {' or '.join(mapping.counters)}")
        return found
    kind = value_at(data, mapping.kind)
    counter = mapping.kinds.get(kind.lower()) if isinstance(kind, str) else None
    if counter is None:
        known = ", ".join(mapping.kinds)
        raise _UnusableError(f"data.{mapping.kind}: expected what the tokens are ({known}), got {shown(kind)}")
    return {counter: _count(data, mapping.tokens)}


def _count(data: Mapping[str, Any], field: str) -> int:
    sent = value_at(data, field)
    count = read_count(sent)
    if count is None:
        raise _UnusableError(f"data.{field}: expected a whole number from 0 to 2^53 - 1, got {shown(sent)}")
    return count


def _completion(
    document: Mapping[str, Any],
    data: Mapping[str, Any],
    mapping: TypeMapping,
    types: OpenMeterTypes,
    sender: Sender,
) -> Completion:
    """The completion that an event is about; the stream is not known yet."""
    customer_id = sender.customer_id or identifier(document.get("subject"))
    if customer_id is None:
        raise _UnusableError(f"subject: expected the customer's id, got {shown(document.get('subject'))}")
    model = next((found for path in mapping.model if (found := name_of(value_at(data, path)))), None)
    if model is None:
        raise _UnusableError(f"data.{mapping.model[0] if mapping.model else 'model'}: expected the model's name")
    provider = next((found for path in mapping.provider if (found := identifier(value_at(data, path)))), None)
    provider = provider or types.provider_of(model)
    if provider is None:
        field = mapping.provider[0] if mapping.provider else "provider"
        raise _UnusableError(
            f"data.{field}: missing, and no provider is known for {shown(model)}: "
            "send it, or declare the start of the model's name in METERING_OPENMETER_TYPES"
        )
    sent = document.get("time")
    time = sender.received_at if sent is None else time_of(sent)
    if time is None:
        raise _UnusableError(f"time: expected an RFC 3339 time with its offset, got {shown(sent)}")
    return Completion(
        customer_id=customer_id,
        stream_id="",
        source=sender.source or name_of(document.get("source")) or _SOURCE,
        inlet=Inlet.OPENMETER,
        provider=provider,
        model=model,
        started_at=time,
        ended_at=time,
        usage_source=None if mapping.usage_source is None else UsageSource(mapping.usage_source),
    )


def _whole(counts: Mapping[str, Any], side: str) -> Usage:
    """The usage of an event that is a stream by itself. Counters that other events report are 0 here.

    Parts nest in the input or the output, which is then at least as large.
    """
    known: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0} if side else {}
    known |= counts
    for name, count in counts.items():
        for within, whole in _WITHIN.items():
            if within in name and name.endswith("_tokens"):
                known[whole] = max(known.get(whole, 0), count)
    return Usage(**known)
