"""Upstream requests: sends one, returns its answer as it arrives, and translates its failures."""

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx2
from starlette.datastructures import Headers

from metering.gateway.problems import upstream_failed
from metering.gateway.requests import CompletionRequest
from metering.gateway.settings import Upstream

MAX_ANSWER_BYTES = 64 << 20
_MAX_CONNECTIONS = 2_000
_KEPT_CONNECTIONS = 200
_KEPT_SECONDS = 30.0
_CLOSE_SECONDS = 2.0

# Never forwarded upstream, whatever `forward_headers` says: they belong to the connection or to this gateway.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
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
    }
)
# Never sent to the client: they belong to the connection, or describe bytes that are decoded here.
_HOP_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "server",
        "set-cookie",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """An answer whose status and headers have arrived, and whose body has not."""

    status: int
    headers: list[tuple[bytes, bytes]]
    is_event_stream: bool
    _response: httpx2.Response

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it arrives.

        Raises:
            UpstreamFailedError: the body broke off, or the upstream was silent for too long.
        """
        with _translated():
            async for chunk in self._response.aiter_bytes():
                yield chunk

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            UpstreamFailedError: as for `chunks`, or the body is larger than 64 MiB.
        """
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                message = f"The upstream's answer is larger than {MAX_ANSWER_BYTES} bytes."
                raise upstream_failed(status=502, message=message, code="upstream_answer_too_large")
            parts.append(chunk)
        return b"".join(parts)


class UpstreamClient:
    """The connections to all upstreams."""

    def __init__(self) -> None:
        limits = httpx2.Limits(
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=_KEPT_SECONDS,
        )
        self._client = httpx2.AsyncClient(limits=limits, follow_redirects=False)

    async def close(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def request(
        self, *, completion: CompletionRequest, client_headers: Headers
    ) -> AsyncGenerator[UpstreamAnswer]:
        """Send the request upstream. Leaving the context closes the connection, also before the answer's end.

        Raises:
            UpstreamFailedError: the upstream did not answer, or answered with a redirect.
        """
        upstream = completion.upstream
        outgoing = self._client.build_request(
            "POST",
            f"{upstream.base_url}/chat/completions",
            content=completion.content,
            headers=_outgoing_headers(upstream, client_headers, streaming=completion.streaming),
            timeout=httpx2.Timeout(upstream.read_timeout_seconds, connect=upstream.connect_timeout_seconds),
        )
        with _translated():
            response = await self._client.send(outgoing, stream=True)
        try:
            if response.is_redirect:
                # Following it, here or in the client's SDK, would send keys to an address that is not configured.
                message = "The upstream answers with a redirect: its base_url is wrong."
                raise upstream_failed(status=502, message=message, code="upstream_redirect")
            content_type = response.headers.get("content-type", "")
            yield UpstreamAnswer(
                response.status_code,
                _returned_headers(response.headers),
                content_type.partition(";")[0].strip().lower() == "text/event-stream",
                response,
            )
        finally:
            await _close(response)


async def _close(response: httpx2.Response) -> None:
    """Close at once; if that takes too long, leave the connection to the garbage collector."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await response.aclose()
    except (TimeoutError, httpx2.HTTPError, OSError):
        return


def _outgoing_headers(upstream: Upstream, client: Headers, *, streaming: bool) -> dict[str, str]:
    headers = {
        name: value
        for name, value in client.items()
        if name not in _OWN_HEADERS
        and any(fnmatch.fnmatchcase(name, pattern) for pattern in upstream.forward_headers)
    }
    headers["content-type"] = "application/json"
    headers["accept"] = "text/event-stream" if streaming else "application/json"
    # Compressed events would arrive in lumps.
    headers["accept-encoding"] = "identity"
    if upstream.api_key is not None:
        headers["authorization"] = f"Bearer {upstream.api_key}"
    return headers


def _returned_headers(headers: httpx2.Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers.raw if name.lower().decode() not in _HOP_HEADERS]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        message = f"The upstream did not answer in time ({type(error).__name__})."
        raise upstream_failed(status=504, message=message, code="upstream_timeout", timed_out=True) from error
    except httpx2.ConnectError as error:
        message = "The upstream cannot be reached."
        raise upstream_failed(status=502, message=message, code="upstream_unreachable") from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        message = f"The connection to the upstream broke ({type(error).__name__})."
        raise upstream_failed(status=502, message=message, code="upstream_disconnected") from error
