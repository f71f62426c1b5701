"""Upstream requests: sends one, returns its answer as it arrives, and translates its failures."""

import fnmatch
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache

from starlette.datastructures import Headers

from metering.gateway.connections import Connections, UnreachableError, server_of
from metering.gateway.endpoints import Vendor
from metering.gateway.http_connection import HttpConnection, HttpError, HttpTimeoutError
from metering.gateway.problems import UpstreamFailedError, upstream_failed
from metering.gateway.requests import CompletionRequest
from metering.gateway.settings import Upstream

MAX_ANSWER_BYTES = 64 << 20

# Never forwarded upstream, whatever `forward_headers` says: they belong to the connection or to this gateway.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "api-key",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
        "x-resume-key",
    }
)
# Never sent to the client: they belong to the connection.
_HOP_HEADERS = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"server",
        b"set-cookie",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-metering-resumable",
        b"x-metering-resumed",
        b"x-metering-stream-id",
    }
)
# Without these, an endpoint of the vendor does not answer, or not as the client wants.
_NEEDED_HEADERS: dict[Vendor, tuple[str, ...]] = {
    Vendor.OPENAI: (),
    Vendor.ANTHROPIC: ("anthropic-version", "anthropic-beta"),
}
_HEADER_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_NO_HEADER_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_EVENT_STREAM = "text/event-stream"
# How an event stream begins, after a byte order mark and empty lines, whatever its content type says.
_LOOKS_LIKE_EVENTS = re.compile(rb"(?:data|event|id|retry)?:")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_LONGEST_FIELD = len(b"event:")


class UpstreamAnswer:
    """An answer whose status and headers have arrived, and whose body has not."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._begun: list[bytes] = []
        self.status = connection.status
        self.headers = [
            (name, value.strip())
            for name, value in connection.headers
            if name not in _HOP_HEADERS and _HEADER_NAME.fullmatch(name) and not _NO_HEADER_VALUE.search(value)
        ]

    @property
    def content_type(self) -> str:
        return self._header(b"content-type").partition(";")[0].strip().lower()

    @property
    def is_encoded(self) -> bool:
        """Whether the body has an encoding that is not decoded here, although none was asked for."""
        return self._header(b"content-encoding").strip().lower() not in ("", "identity")

    @property
    def arrived_bytes(self) -> int:
        """The bytes that have arrived so far, read or not."""
        return self._connection.arrived_bytes

    def close_sending(self) -> bool:
        """Tell the upstream to stop, and read what it writes until then; False where that is not possible."""
        return self._connection.close_sending()

    async def is_event_stream(self) -> bool:
        """Whether the body is an event stream: it says so, or it looks like one.

        Raises:
            UpstreamFailedError: the body broke off at its beginning.
        """
        if self.content_type == _EVENT_STREAM:
            return True
        beginning = b""
        while len(beginning.lstrip(_BLANK)) < _LONGEST_FIELD and len(beginning) < 1_024:
            try:
                data = await self._connection.read()
            except HttpError as error:
                raise _failure(error) from error
            if not data:
                break
            self._begun.append(data)
            beginning += data
        return _LOOKS_LIKE_EVENTS.match(beginning.lstrip(_BLANK)) is not None

    async def read(self) -> bytes:
        """Some of the body as soon as it has arrived; nothing at its end.

        Raises:
            UpstreamFailedError: the body broke off, or the upstream was silent for too long. Everything that had
                arrived before was read.
        """
        if self._begun:
            return self._begun.pop(0)
        try:
            return await self._connection.read()
        except HttpError as error:
            raise _failure(error) from error

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            UpstreamFailedError: as for `read`, or the body is larger than 64 MiB.
        """
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            size += len(data)
            if size > MAX_ANSWER_BYTES:
                message = f"The upstream's answer is larger than {MAX_ANSWER_BYTES} bytes."
                raise upstream_failed(status=502, message=message, code="upstream_answer_too_large")
            parts.append(data)
        return b"".join(parts)

    def _header(self, name: bytes) -> str:
        return next((value for known, value in self.headers if known == name), b"").decode("latin-1")


class UpstreamClient:
    """Sends requests to upstreams."""

    def __init__(self) -> None:
        self._connections = Connections()

    def close(self) -> None:
        self._connections.close()

    @asynccontextmanager
    async def request(
        self, *, completion: CompletionRequest, content: bytes, client_headers: Headers
    ) -> AsyncGenerator[UpstreamAnswer]:
        """Send `content` to the request's upstream. Leaving the context early closes the connection at once.

        Raises:
            UpstreamFailedError: the upstream did not answer, or answered with a redirect.
        """
        upstream = completion.upstream
        server, path = server_of(upstream.base_url)
        head = _head(
            f"{path}{completion.endpoint.path}", server.address, completion.content_type, len(content)
        ) + _forwarded(completion, client_headers)
        try:
            connection = await self._connections.take(server, timeout=upstream.connect_timeout_seconds)
        except HttpError as error:
            raise _failure(error) from error
        try:
            connection.request(head, content, read_timeout=upstream.read_timeout_seconds)
            try:
                await connection.head()
            except HttpError as error:
                raise _failure(error) from error
            if 300 <= connection.status < 400:
                # Following it, here or in the client's SDK, would send keys to an address that is not configured.
                message = "The upstream answers with a redirect: its base_url is wrong."
                raise upstream_failed(status=502, message=message, code="upstream_redirect")
            yield UpstreamAnswer(connection)
        finally:
            self._connections.give_back(server, connection)


@lru_cache(maxsize=1_024)
def _head(path: str, address: str, content_type: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: {address}\r\n"
        f"content-type: {content_type}\r\ncontent-length: {length}\r\n"
        # Compressed events would arrive in lumps.
        "accept-encoding: identity\r\nuser-agent: metering-gateway\r\n"
    ).encode()


def _forwarded(completion: CompletionRequest, client: Headers) -> bytes:
    """The headers that depend on the request, with the empty line after them."""
    upstream, endpoint = completion.upstream, completion.endpoint
    patterns = (*upstream.forward_headers, *_NEEDED_HEADERS[endpoint.vendor])
    lines = [
        f"{name}: {value}"
        for name, value in client.items()
        if patterns
        and name not in _OWN_HEADERS | {"accept", "user-agent"}
        and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    if endpoint.any_answer:
        lines.append("accept: */*")
    else:
        lines.append(f"accept: {_EVENT_STREAM if completion.streaming else 'application/json'}")
    if upstream.api_key is not None:
        lines.append(_key_line(upstream, endpoint.vendor))
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1", "replace") + b"\r\n"


def _key_line(upstream: Upstream, vendor: Vendor) -> str:
    name = upstream.api_key_header or ("x-api-key" if vendor is Vendor.ANTHROPIC else "authorization")
    return f"{name}: {'Bearer ' if name == 'authorization' else ''}{upstream.api_key}"


def _failure(error: HttpError) -> UpstreamFailedError:
    """The failure for the client, who learns what happened, but no addresses."""
    if isinstance(error, HttpTimeoutError):
        message = f"The upstream did not answer in time: {error}."
        return upstream_failed(status=504, message=message, code="upstream_timeout", timed_out=True)
    if isinstance(error, UnreachableError):
        return upstream_failed(status=502, message="The upstream cannot be reached.", code="upstream_unreachable")
    message = f"The connection to the upstream broke: {error}."
    return upstream_failed(status=502, message=message, code="upstream_disconnected")
