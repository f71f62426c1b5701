"""What LiteLLM's details of a call say of it: who asks whom, for what, and who pays.

LiteLLM keeps the details of a call in one dict, `model_call_details`, which it fills while the call goes on. At
`log_pre_api_call` it has the provider and the model that were chosen, and not the alias that the client sent.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from metering.answers.inputs import input_characters
from metering.answers.litellm_names import about, first_known, operation_of, provider_of, tags_of
from metering.answers.tokens import counter_for
from metering.answers.words import MAX_ID, MAX_NAME, MAX_NOTE, exact_text
from metering.emitter import Emitter, MeteredStream
from metering.emitter.events import MAX_TAGS
from metering.events.events import Inlet
from metering.inlets.litellm_settings import LiteLLMSettings

# The type of calls that LiteLLM passes through as they are.
PASSED_THROUGH = "pass_through_endpoint"
# The type of sessions over a WebSocket.
REALTIME = "_arealtime"
# Calls whose input is messages; of others, LiteLLM makes messages too.
_CHATS = frozenset({None, "completion", "acompletion", "anthropic_messages", PASSED_THROUGH})
# Calls whose input LiteLLM gives as a file's name and checksum, or only during the call.
_UNCOUNTED = frozenset({"transcription", "atranscription", REALTIME})
_DESCRIPTIONS = ("tools", "functions", "response_format")
# The fields of a client's request that two attempts at it have in common.
_REQUEST = ("model", "messages", "input", "prompt", "system", "instructions", "n", *_DESCRIPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt of LiteLLM at an upstream, as `Emitter.stream` wants it."""

    customer_id: str
    api_key_id: str | None
    provider: str
    model: str
    operation: str
    streaming: bool
    request: Mapping[str, Any] | None
    input_tokens: int | None
    input_characters: int | None
    max_output_tokens: int | None
    request_hash: str | None
    service_tier: str | None
    tags: Mapping[str, str]


def open_stream(emitter: Emitter, call: Call) -> MeteredStream:
    """The metered stream of a call, to be entered.

    Raises:
        TypeError, ValueError: a field of the call cannot be in an event.
    """
    return emitter.stream(
        customer_id=call.customer_id,
        provider=call.provider,
        model=call.model,
        input_tokens=call.input_tokens,
        input_characters=call.input_characters,
        request=call.request,
        streaming=call.streaming,
        operation=call.operation,
        max_output_tokens=call.max_output_tokens,
        api_key_id=call.api_key_id,
        request_hash=call.request_hash,
        service_tier=call.service_tier,
        tags=call.tags,
        inlet=Inlet.LITELLM,
    )


def details_of(logging_object: Any) -> dict[str, Any] | None:
    """The details that LiteLLM's logging object of a call keeps; None if it is none."""
    details = getattr(logging_object, "model_call_details", None)
    return details if isinstance(details, dict) else None


def read_call(details: Mapping[str, Any], settings: LiteLLMSettings) -> Call:
    """The call that LiteLLM is about to make.

    Raises:
        ValueError: the details have no provider or no model.
    """
    parameters = _mapping(details.get("litellm_params"))
    options = _mapping(details.get("optional_params"))
    provider = exact_text(
        details.get("custom_llm_provider")
        or parameters.get("custom_llm_provider")
        or _passed_to(details, parameters),
        MAX_ID,
    )
    model = exact_text(details.get("model"), MAX_NAME)
    if provider is None or model is None:
        raise ValueError(f"LiteLLM names no provider or model: {provider!r}, {model!r}")
    model = model.removeprefix(f"{provider}/")
    known = _about(details, parameters)
    request, counted = _input(details, options, model)
    operation = operation_of(exact_text(details.get("call_type"), MAX_NAME))
    return Call(
        customer_id=first_known(known, settings.payers) or settings.default_customer,
        api_key_id=first_known(known, ("key_alias", "key_hash")),
        provider=provider_of(provider),
        model=model,
        operation=operation,
        streaming=bool(details.get("stream") or options.get("stream")),
        request=request,
        input_tokens=counted,
        input_characters=input_characters(details) if operation == "speech" else None,
        max_output_tokens=_limit(options),
        request_hash=_request_hash(details, parameters),
        service_tier=exact_text(options.get("service_tier"), MAX_NOTE),
        tags=tags_of(known, settings.tags, metadata_of(parameters).get("tags"), most=MAX_TAGS),
    )


def _passed_to(details: Mapping[str, Any], parameters: Mapping[str, Any]) -> str | None:
    """The provider in the path of a request that is passed through, such as /anthropic/v1/messages."""
    route = metadata_of(parameters).get("user_api_key_request_route")
    if details.get("call_type") != PASSED_THROUGH or not isinstance(route, str):
        return None
    return route.strip("/").partition("/")[0].replace("-", "_") or None


def metadata_of(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """The proxy's own metadata: some routes have it under another name, as the client's is under the first."""
    return {**_mapping(parameters.get("metadata")), **_mapping(parameters.get("litellm_metadata"))}


def _about(details: Mapping[str, Any], parameters: Mapping[str, Any]) -> Mapping[str, object]:
    options = _mapping(details.get("optional_params"))
    return about(
        metadata_of(parameters),
        call_id=details.get("litellm_call_id"),
        end_user=details.get("user") or options.get("user"),
    )


def _input(
    details: Mapping[str, Any], options: Mapping[str, Any], model: str
) -> tuple[Mapping[str, Any] | None, int | None]:
    """The messages, to be counted; or the tokens of an input that is plain text."""
    if details.get("call_type") in _UNCOUNTED:
        return None, None
    given = details.get("messages") or details.get("input")
    if isinstance(given, list) and given and all(isinstance(each, dict) for each in given):
        described = {name: options[name] for name in _DESCRIPTIONS if options.get(name)}
        if details.get("call_type") in _CHATS:
            return {"messages": given, **described}, None
        given = [each.get("content") for each in given]
    texts = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    plain = [each for each in texts if isinstance(each, str)]
    if not plain or len(plain) < len(texts):
        return None, None
    counter = counter_for(model=model)
    return None, sum(counter.count(text) for text in plain)


def _limit(options: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        limit = options.get(name)
        if isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0:
            return limit
    return None


def _request_hash(details: Mapping[str, Any], parameters: Mapping[str, Any]) -> str | None:
    """The same for all attempts at one request, whatever deployment they go to, and for the client's retries."""
    body = _mapping(_mapping(parameters.get("proxy_server_request")).get("body"))
    asked: dict[str, Any] = {name: body[name] for name in _REQUEST if body.get(name)}
    if not asked:
        asked = {"messages": details.get("messages") or details.get("input")}
    try:
        content = msgspec.json.encode(asked, order="sorted", enc_hook=str)
    except (UnicodeEncodeError, ValueError, TypeError, RecursionError):
        return None
    return hashlib.sha256(content).hexdigest()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
