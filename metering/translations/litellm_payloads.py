"""What LiteLLM's `generic_api` logger posts: its StandardLoggingPayload of each call that is over.

The payload: `StandardLoggingPayload` in litellm/types/utils.py, filled in litellm/litellm_core_utils/
litellm_logging.py. Its prompts and answers (`messages`, `response`) are not even read: they become no value.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from metering.answers.json_reading import read_json
from metering.answers.litellm_names import (
    UNASSIGNED,
    USUAL_PAYERS,
    USUAL_TAGS,
    about,
    first_known,
    operation_of,
    provider_of,
    tags_of,
)
from metering.answers.usage import Amount, counters, usage_parts
from metering.answers.words import MAX_ID, MAX_NAME, exact_text
from metering.events.events import Inlet, Outcome, UsageSource
from metering.events.usage import Usage
from metering.translations.completions import (
    Completion,
    Sender,
    name_of,
    stream_id_of,
    time_after_epoch,
    usage_of,
)
from metering.translations.fields import note_of, shown
from metering.translations.translated import LeftOut, Translated, TranslatedEvent

_SOURCE = "/litellm"
_MAX_TAGS = 16
# What is read leniently has at most this many objects and lists.
_MAX_LENIENT = 100_000
_SECOND = timedelta(seconds=1)
# LiteLLM adds these to the tags of each request.
_ADDED_TAG = "User-Agent:"
_CLIENT_LEFT = "ClientDisconnected"
# Calls that use a model; others, such as of files and of tools, have no usage.
_INFERENCE = frozenset(
    {
        "chat",
        "messages",
        "responses",
        "embeddings",
        "text_completion",
        "image_generation",
        "transcription",
        "speech",
    }
)
_BATCH = "_batch"
# Only an upstream can know these, so a usage with one of them is the upstream's.
_TELLING = frozenset(
    {
        "cache_read_input_tokens",
        "cache_write_input_tokens",
        "input_audio_tokens",
        "input_image_tokens",
        "output_audio_tokens",
        "output_image_tokens",
        "web_searches",
        "upstream_cost_usd",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteLLMRules:
    """Who pays: the first of `payers` that is known, else `default_customer`; and the tags of a stream."""

    payers: Sequence[str] = USUAL_PAYERS
    default_customer: str = UNASSIGNED
    tags: Sequence[str] = USUAL_TAGS


class Payload(Struct, frozen=True):
    """The fields of a payload that are read, whatever stands there."""

    id: Any = None
    litellm_call_id: Any = None
    call_type: Any = None
    stream: Any = None
    status: Any = None
    cache_hit: Any = None
    custom_llm_provider: Any = None
    model: Any = None
    model_id: Any = None
    model_group: Any = None
    model_parameters: Any = None
    metadata: Any = None
    end_user: Any = None
    request_tags: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    error_information: Any = None
    start: Any = msgspec.field(name="startTime", default=None)
    end: Any = msgspec.field(name="endTime", default=None)


_decode_many = msgspec.json.Decoder(list[Payload]).decode
_decode_one = msgspec.json.Decoder(Payload).decode


def read_payloads(body: bytes) -> list[Payload | None]:
    """The payloads of a request: an array, one a line, or a single one. None stands for what is no object.

    Raises:
        ValueError: it is no JSON; or so odd that reading it would take too much.
    """
    try:
        return list(_decode_many(body)) if body.lstrip()[:1] == b"[" else [_decode_one(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    lines = [line for line in body.split(b"\n") if line.strip()]
    try:
        return [_decode_one(line) for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    if body.count(b"{") + body.count(b"[") > _MAX_LENIENT:
        raise ValueError("not valid JSON")
    return list(_read_leniently(body, lines))


def _read_leniently(body: bytes, lines: Sequence[bytes]) -> Iterator[Payload | None]:
    """LiteLLM writes JSON as Python does, with NaN and half of a surrogate pair."""
    try:
        found = read_json(body)
        documents = found if isinstance(found, list) else [found]
    except ValueError:
        documents = [read_json(line) for line in lines]
    for document in documents:
        yield msgspec.convert(document, Payload) if isinstance(document, dict) else None


class _UnusableError(ValueError):
    """A payload that no stream can be made of; the message says which field, and the fix."""


def translate_litellm(payloads: Sequence[Payload | None], *, rules: LiteLLMRules, sender: Sender) -> Translated:
    """The calls of a request, each an attempt at an upstream. What LiteLLM's cache has answered is passed over."""
    events: list[TranslatedEvent] = []
    left_out: list[LeftOut] = []
    for record, payload in enumerate(payloads):
        try:
            if payload is None:
                raise _UnusableError("expected a StandardLoggingPayload as an object")
            completion = _completion(payload, rules, sender)
            if completion is not None:
                events += completion.events(record)
        except _UnusableError as error:
            id_ = None if payload is None else exact_text(payload.id, MAX_NAME)
            left_out.append(LeftOut(record=record, id=id_, detail=str(error)))
    return Translated(events=events, left_out=left_out)


def _completion(payload: Payload, rules: LiteLLMRules, sender: Sender) -> Completion | None:
    """The attempt that a payload reports; None if no upstream was asked, or no model was used."""
    if payload.cache_hit is True:
        return None
    operation = operation_of(exact_text(payload.call_type, MAX_NAME))
    outcome, error_type = _outcome(payload)
    upstream = _upstream(payload)
    if upstream is None:
        if outcome is Outcome.FAILED:
            return None  # LiteLLM has refused the request itself.
        raise _UnusableError("custom_llm_provider, model: missing: LiteLLM names no upstream")
    provider, model = upstream
    usage, cost, source = _usage(payload, provider, outcome)
    if usage is not None and operation.endswith(_BATCH):
        raise _UnusableError(
            "call_type: LiteLLM reports a batch's usage each time the batch is read: "
            "post the results of the batch as events"
        )
    if usage is None and outcome is Outcome.COMPLETED:
        if operation not in _INFERENCE:
            return None
        raise _UnusableError(
            "metadata.usage_object: LiteLLM knows no tokens, because the upstream reports none: "
            "use the callback metering.inlets.litellm, which counts them"
        )
    started_at, ended_at = _times(payload)
    known = _about(payload)
    call_id, own_id = exact_text(payload.litellm_call_id, MAX_NAME), exact_text(payload.id, MAX_NAME)
    if call_id is None and own_id is None:
        raise _UnusableError("litellm_call_id, id: missing: a payload needs an id")
    parameters = payload.model_parameters if isinstance(payload.model_parameters, dict) else {}
    return Completion(
        customer_id=sender.customer_id or first_known(known, rules.payers) or rules.default_customer,
        stream_id=stream_id_of(Inlet.LITELLM, call_id or own_id or "", own_id, payload.start, model),
        source=sender.source or _SOURCE,
        inlet=Inlet.LITELLM,
        provider=provider_of(provider),
        model=model,
        started_at=started_at,
        ended_at=ended_at,
        outcome=outcome,
        usage=usage,
        usage_source=source,
        streaming=payload.stream is True or parameters.get("stream") is True,
        operation=operation,
        api_key_id=first_known(known, ("key_alias", "key_hash")),
        # All attempts at one request have LiteLLM's call id: those after the first are linked as its retries.
        request_hash=None if call_id is None else f"litellm:{call_id}",
        response_id=None if own_id == call_id else own_id,
        service_tier=note_of(parameters.get("service_tier")),
        error_type=error_type,
        upstream_cost_usd=cost,
        tags=tags_of(known, rules.tags, _tags(payload), most=_MAX_TAGS),
    )


def _upstream(payload: Payload) -> tuple[str, str] | None:
    """Who was asked, by LiteLLM's name, and for which model; None if that is not known."""
    provider = exact_text(payload.custom_llm_provider, MAX_ID)
    model = name_of(payload.model)
    model = None if model is None or provider is None else model.removeprefix(f"{provider}/") or None
    return None if provider is None or model is None else (provider, model)


def _outcome(payload: Payload) -> tuple[Outcome, str | None]:
    """LiteLLM tells a client that has left as a success, with an error beside it."""
    about_error = payload.error_information if isinstance(payload.error_information, dict) else {}
    error = note_of(about_error.get("error_class")) or note_of(about_error.get("error_code"))
    if about_error.get("error_class") == _CLIENT_LEFT or about_error.get("error_code") == "499":
        return Outcome.CANCELLED, None
    if payload.status != "failure":
        return Outcome.COMPLETED, None
    return Outcome.TIMED_OUT if error == "Timeout" else Outcome.FAILED, error


def _usage(
    payload: Payload, provider: str, outcome: Outcome
) -> tuple[Usage | None, str | None, UsageSource | None]:
    """The usage, what the upstream says that it cost, and whose usage it is.

    LiteLLM writes 0 for what it does not know, and completes a stream's usage with its own count, which looks the
    same: unless only an upstream can know a part of it, it is an estimate.
    """
    metadata = payload.metadata if isinstance(payload.metadata, dict) else {}
    reported = metadata.get("usage_object")
    if not isinstance(reported, dict) or not reported:
        reported = {"prompt_tokens": payload.prompt_tokens, "completion_tokens": payload.completion_tokens}
    found: dict[str, Amount] = dict(counters(usage_parts({"usage": reported}), provider=provider))
    if not any(found.values()):
        return None, None, None
    is_whole = outcome is Outcome.COMPLETED and payload.stream is not True
    if is_whole or any(found.get(name) for name in _TELLING):
        return *usage_of(found), UsageSource.PROVIDER
    return *usage_of({name: amount for name, amount in found.items() if amount}), UsageSource.ESTIMATE


def _times(payload: Payload) -> tuple[datetime, datetime]:
    began = time_after_epoch(payload.start, unit=_SECOND)
    ended = time_after_epoch(payload.end, unit=_SECOND)
    if began is None:
        raise _UnusableError(f"startTime: expected seconds since 1970, got {shown(payload.start)}")
    return began, began if ended is None else ended


def _about(payload: Payload) -> dict[str, object]:
    metadata: Mapping[str, Any] = payload.metadata if isinstance(payload.metadata, dict) else {}
    return about(
        metadata, end_user=payload.end_user, call_id=payload.litellm_call_id, model_group=payload.model_group
    )


def _tags(payload: Payload) -> list[str]:
    given = payload.request_tags if isinstance(payload.request_tags, list) else []
    return [tag for tag in given if isinstance(tag, str) and not tag.startswith(_ADDED_TAG)]
