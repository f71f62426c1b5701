"""A client's request: its key, its model, and the body that goes upstream. All requests are checked here."""

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from metering.answers.words import clean
from metering.gateway.endpoints import Body, Endpoint
from metering.gateway.problems import refused
from metering.gateway.request_body import (
    MAX_BODY_BYTES,
    canonical_hash,
    find_ambiguous_field,
    form_fields,
    hash_of,
    inflated,
    read_request,
    with_usage_option,
)
from metering.gateway.routing import Routing
from metering.gateway.settings import ClientKey, Upstream

_BODY_SECONDS = 120.0
_MAX_TAGS = 16
_MAX_TAG_NAME = 128
_MAX_TAG_VALUE = 1_024
_MAX_MODEL = 256
_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
# What upstreams with a lenient validation take for true: pydantic's lax mode, among others.
_TRUE_WORDS = frozenset({"true", "t", "yes", "y", "on", "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A request that will be served.

    `content` is the body that goes upstream, with the option that asks for usage. `original` is the body as it
    came, for upstreams that refuse the option; the same if the client has set it.
    """

    endpoint: Endpoint
    key: ClientKey
    upstream: Upstream
    model: str
    streaming: bool
    document: dict[str, Any]
    content: bytes
    original: bytes
    content_type: str
    request_hash: str
    tags: dict[str, str]

    @property
    def hides_usage(self) -> bool:
        """Whether the client must not get the usage chunk, because only the gateway asked for it."""
        return self.streaming and self.endpoint.usage_option and not _asks_for_usage(self.document)

    @property
    def max_output_tokens(self) -> int | None:
        for name in _LIMITS:
            value = self.document.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
                return value
        return None

    @property
    def choices(self) -> int:
        """The number of answers that the request asks for: so many for each of a list of prompts."""
        if not self.endpoint.usage_option:
            return 1
        value, prompts = self.document.get("n"), self.document.get("prompt")
        each = value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_024 else 1
        several = isinstance(prompts, list) and prompts and isinstance(prompts[0], str | list)
        return each * len(prompts) if several and isinstance(prompts, list) else each

    @property
    def billed_choices(self) -> int:
        """The number of answers that are billed: `best_of` of each prompt are written, and `n` of them shown."""
        value = self.document.get("best_of")
        best_of = value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1_024 else 1
        shown = self.document.get("n")
        each = shown if isinstance(shown, int) and not isinstance(shown, bool) and 1 <= shown <= 1_024 else 1
        if not self.endpoint.usage_option or best_of <= each:
            return self.choices
        return self.choices // each * best_of

    @property
    def limit_name(self) -> str:
        """The field with which the client limits the output."""
        given = next((name for name in _LIMITS if name in self.document), None)
        return given or ("max_output_tokens" if self.endpoint.operation == "responses" else "max_tokens")

    @property
    def service_tier(self) -> str | None:
        return clean(self.document.get("service_tier"))


def authenticate(*, request: Request, routing: Routing) -> ClientKey:
    """The client key of a request: in `Authorization: Bearer`, or in `api-key` (Azure) or `x-api-key` (Anthropic).

    Raises:
        RefusedError: 401, the key is missing or unknown.
    """
    # The hash is looked up, not the key: the time that this takes reveals nothing about other keys.
    found = routing.find_key(presented_key(request))
    if found is None:
        raise refused(
            status=401,
            message="Incorrect API key: send a key of this gateway as `Authorization: Bearer <key>`.",
            code="invalid_api_key",
        )
    return found


def presented_key(request: Request) -> str:
    """The key in the request's headers, valid or not; empty if there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        key = request.headers.get("x-api-key") or request.headers.get("api-key", "")
    return key.strip()


async def read_completion_request(*, request: Request, routing: Routing, endpoint: Endpoint) -> CompletionRequest:
    """Authenticate, read, check and prepare a request.

    Raises:
        RefusedError: the request cannot be served; has the answer.
        ClientDisconnect: the client disconnected before it had sent everything.
    """
    key = authenticate(request=request, routing=routing)
    tags = parse_tags(request.headers.get("x-metering-tags", ""))
    body = await _read_body(request)
    content_type = "application/json"
    if endpoint.body is Body.FORM:
        content_type = request.headers.get("content-type", "")
        document: dict[str, Any] = await form_fields(body, content_type)
    else:
        document = read_request(body)
        if (name := find_ambiguous_field(body, document)) is not None:
            message = f"The field {name!r} is ambiguous: send each field once, and its name in lower case."
            raise refused(status=400, message=message, code="ambiguous_field", param=name)
    if is_true(document.get("background")):
        message = "`background` is not served: its answer would have to be fetched later, and is not metered."
        raise refused(status=400, message=message, code="unsupported_parameter", param="background")
    model = document.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= _MAX_MODEL or clean(model, name=True) != model:
        raise refused(
            status=400, message="`model` is missing or invalid: name a model.", code="invalid_model", param="model"
        )
    upstream = routing.find_upstream(model)
    streaming = is_true(document.get("stream"))
    asked = not endpoint.usage_option or _asks_for_usage(document)
    wants_option = streaming and upstream.include_usage and not asked
    return CompletionRequest(
        endpoint=endpoint,
        key=key,
        upstream=upstream,
        model=model,
        streaming=streaming,
        document=document,
        content=with_usage_option(body, document) if wants_option else body,
        original=body,
        content_type=content_type,
        request_hash=hash_of(body) if endpoint.body is Body.FORM else canonical_hash(body, document),
        tags=tags,
    )


def is_true(value: object) -> bool:
    """Whether an upstream may take the value for true; a stricter one refuses it by itself."""
    if isinstance(value, str):
        return value.strip().lower() in _TRUE_WORDS
    return isinstance(value, int | float) and value == 1


def _asks_for_usage(document: dict[str, Any]) -> bool:
    options = document.get("stream_options")
    return isinstance(options, dict) and is_true(options.get("include_usage"))


def parse_tags(header: str) -> dict[str, str]:
    """The tags in `k=v,k2=v2`.

    Raises:
        RefusedError: 400, the tags are malformed or break the contract's bounds.
    """
    tags: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in header.split(","))):
        name, separator, value = (part.strip() for part in item.partition("="))
        good = separator and 1 <= len(name) <= _MAX_TAG_NAME and len(value) <= _MAX_TAG_VALUE
        if not good or name in tags:
            raise _bad_tags(f"{item[:60]!r} is not a new key=value")
        tags[name] = value
    if len(tags) > _MAX_TAGS:
        raise _bad_tags(f"{len(tags)} tags")
    return tags


def _bad_tags(problem: str) -> Exception:
    message = f"x-metering-tags: {problem}; send at most {_MAX_TAGS}, as key=value,key2=value2."
    return refused(status=400, message=message, code="invalid_tags", param="x-metering-tags")


async def _read_body(request: Request) -> bytes:
    """The whole body, bounded in size and in time (uvicorn has no time limit)."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > MAX_BODY_BYTES:
                    message = f"The body is larger than {MAX_BODY_BYTES} bytes."
                    raise refused(status=413, message=message, code="request_too_large")
                parts.append(part)
    except TimeoutError:
        message = f"The body did not arrive within {_BODY_SECONDS:.0f} s."
        raise refused(status=408, message=message, code="request_timeout") from None
    return inflated(b"".join(parts), encoding=request.headers.get("content-encoding", ""))
