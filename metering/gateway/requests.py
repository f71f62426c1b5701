"""A client's request: its key, its model, and the body that goes upstream. All requests are checked here."""

import asyncio
import fnmatch
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from metering.gateway.chunks import clean, decode_object
from metering.gateway.problems import refused
from metering.gateway.settings import ClientKey, GatewaySettings, Upstream, hash_key

MAX_BODY_BYTES = 32 << 20
_BODY_SECONDS = 120.0
_MAX_TAGS = 16
_MAX_TAG_NAME = 128
_MAX_TAG_VALUE = 1_024
_MAX_MODEL = 256

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A request that will be served. `content` is the body that goes upstream.

    `hides_usage`: only the gateway asked for the usage chunk, so the client must not get it.
    """

    key: ClientKey
    upstream: Upstream
    model: str
    streaming: bool
    document: dict[str, Any]
    content: bytes
    hides_usage: bool
    request_hash: str
    tags: dict[str, str]

    @property
    def max_output_tokens(self) -> int | None:
        for name in ("max_completion_tokens", "max_tokens"):
            value = self.document.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
                return value
        return None

    @property
    def service_tier(self) -> str | None:
        return clean(self.document.get("service_tier"))


def authenticate(*, request: Request, settings: GatewaySettings) -> ClientKey:
    """The client key of a request. Every key is compared, so that the time reveals nothing.

    Raises:
        RefusedError: 401, the key is missing or unknown.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    digest = hash_key(key.strip())
    found: ClientKey | None = None
    for known in settings.keys:
        if hmac.compare_digest(known.key_sha256, digest):
            found = known
    if found is None or scheme.lower() != "bearer":
        raise refused(
            status=401,
            message="Incorrect API key: send a key of this gateway as `Authorization: Bearer <key>`.",
            code="invalid_api_key",
        )
    return found


def find_upstream(*, model: str, settings: GatewaySettings) -> Upstream:
    """The first upstream with a pattern that matches the model.

    Raises:
        RefusedError: 404, no upstream has the model.
    """
    for upstream in settings.upstreams:
        if any(fnmatch.fnmatchcase(model, pattern) for pattern in upstream.models):
            return upstream
    raise refused(
        status=404,
        message=f"The model {model!r} does not exist here: no upstream of this gateway serves it.",
        code="model_not_found",
        param="model",
    )


async def read_completion_request(*, request: Request, settings: GatewaySettings) -> CompletionRequest:
    """Authenticate, read, check and prepare a request.

    Raises:
        RefusedError: the request cannot be served; has the answer.
        ClientDisconnect: the client disconnected before it had sent everything.
    """
    key = authenticate(request=request, settings=settings)
    tags = parse_tags(request.headers.get("x-metering-tags", ""))
    body = await _read_body(request)
    document = decode_object(body)
    if document is None:
        raise refused(status=400, message="The body is not a JSON object.", code="invalid_json")
    model = document.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= _MAX_MODEL or clean(model, name=True) != model:
        raise refused(
            status=400, message="`model` is missing or invalid: name a model.", code="invalid_model", param="model"
        )
    upstream = find_upstream(model=model, settings=settings)
    streaming = document.get("stream") is True
    content = _with_usage(body, document) if streaming else body
    return CompletionRequest(
        key=key,
        upstream=upstream,
        model=model,
        streaming=streaming,
        document=document,
        content=content,
        hides_usage=content is not body,
        request_hash=_canonical_hash(document),
        tags=tags,
    )


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
    return b"".join(parts)


def _with_usage(body: bytes, document: dict[str, Any]) -> bytes:
    """The body with a request for the usage chunk, other fields unchanged; `body` itself if it has one already."""
    options = document.get("stream_options")
    options = options if isinstance(options, dict) else {}
    if options.get("include_usage") is True:
        return body
    fields = _fields.decode(body)
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": True}))
    return msgspec.json.encode(fields)


def _canonical_hash(document: dict[str, Any]) -> str:
    """A hash that does not depend on the order of fields; it identifies an SDK's retry."""
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()
