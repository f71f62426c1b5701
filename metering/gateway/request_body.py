"""The body of a client's request: read leniently, passed on as it came, but for the option that asks for usage."""

import hashlib
import json
import zlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from metering.answers.json_reading import read_json
from metering.gateway.problems import refused

MAX_BODY_BYTES = 32 << 20

# Fields that decide what a completion costs. Some JSON readers fold the case of names, some take the first of two.
_DECISIVE = frozenset(
    {"model", "models", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "service_tier"}
)
_ESCAPED_LETTER = b"\\u00"
_SPACE = b" \t\r\n"

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def inflated(body: bytes, *, encoding: str) -> bytes:
    """The body without its content encoding.

    Raises:
        RefusedError: 415 for an encoding that is not known, 400 for a damaged body, 413 for one that is too large.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        message = f"The content encoding {encoding[:40]!r} is not supported: send gzip, or no encoding."
        raise refused(status=415, message=message, code="unsupported_encoding")
    inflater = zlib.decompressobj(32 + zlib.MAX_WBITS)
    try:
        document = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise refused(status=400, message=f"The body is not valid {encoding}.", code="invalid_encoding") from error
    if len(document) > MAX_BODY_BYTES:
        message = f"The body is larger than {MAX_BODY_BYTES} bytes."
        raise refused(status=413, message=message, code="request_too_large")
    if not inflater.eof:
        raise refused(status=400, message=f"The {encoding} body is cut off.", code="invalid_encoding")
    return document


def read_request(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; lone surrogates and NaN are no reason to refuse it.

    Raises:
        RefusedError: 400, it is not a JSON object.
    """
    try:
        document = read_json(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise refused(status=400, message="The body is not a JSON object.", code="invalid_json")
    return document


async def form_fields(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a form without its files.

    Raises:
        RefusedError: 400, it is not a form, or has a decisive field twice.
    """

    async def once() -> AsyncGenerator[bytes]:
        yield body

    if not content_type.lower().startswith("multipart/form-data"):
        message = "The body is not a form: send multipart/form-data, as the SDKs do."
        raise refused(status=400, message=message, code="invalid_form")
    parser = MultiPartParser(Headers({"content-type": content_type}), once(), max_part_size=MAX_BODY_BYTES)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        raise refused(status=400, message=f"The form is damaged: {error}", code="invalid_form") from error
    try:
        texts = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    finally:
        await form.close()
    names = [name for name, _ in texts]
    for name in _DECISIVE:
        if names.count(name) > 1:
            message = f"The field {name!r} is ambiguous: send it once."
            raise refused(status=400, message=message, code="ambiguous_field", param=name)
    return dict(texts)


def find_ambiguous_field(body: bytes, document: dict[str, Any]) -> str | None:
    """A field that another reader of the same body could understand differently; None if there is none."""
    for name in document:
        folded = name.casefold()
        if folded in _DECISIVE and name != folded:
            return name
    may_repeat = _ESCAPED_LETTER in body or any(body.count(b'"%s"' % name.encode()) > 1 for name in _DECISIVE)
    return _repeated_field(body) if may_repeat else None


def _repeated_field(body: bytes) -> str | None:
    """A decisive field that the outermost object has twice."""
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Called for inner objects first: what remains is of the outermost one.
        names = [name for name, _ in pairs if name in _DECISIVE]
        repeated[:] = [name for name in names if names.count(name) > 1]
        return {}

    decoder = json.JSONDecoder(strict=False, parse_int=float, object_pairs_hook=note)
    decoder.decode(body.decode("utf-8-sig", "surrogateescape"))
    return repeated[0] if repeated else None


def with_usage_option(body: bytes, document: dict[str, Any]) -> bytes:
    """The body with `stream_options.include_usage`; everything else stays byte for byte."""
    options = document.get("stream_options")
    if "stream_options" not in document:
        start = body.index(b"{") + 1
        separator = b"" if body[start:].lstrip(_SPACE).startswith(b"}") else b","
        return body[:start] + b'"stream_options":{"include_usage":true}' + separator + body[start:]
    wanted = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    try:
        fields = _fields.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return json.dumps({**document, "stream_options": wanted}).encode()
    fields["stream_options"] = msgspec.Raw(json.dumps(wanted).encode())
    return msgspec.json.encode(fields)


def canonical_hash(body: bytes, document: dict[str, Any]) -> str:
    """A hash that does not depend on the order of fields; it identifies an SDK's retry."""
    try:
        content = msgspec.json.encode(document, order="sorted")
    except (UnicodeEncodeError, ValueError, TypeError, RecursionError):
        content = body
    return hash_of(content)


def hash_of(content: bytes) -> str:
    """The hash of a request's content."""
    return hashlib.sha256(content).hexdigest()
