"""Paths of streams: ids may contain slashes, and what belongs to a stream follows behind its id."""

from collections.abc import Callable
from urllib.parse import unquote

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from metering.api.errors import InvalidParameterError

StreamKey = Callable[[Request, str, str], tuple[str, str]]


def stream_key_before(suffix: str) -> StreamKey:
    """A dependency that gives (customer_id, stream_id) of a path that ends in `suffix`."""

    def stream_key(request: Request, customer_id: str, stream_id: str) -> tuple[str, str]:
        """Both ids as they were sent: routing has undone %2F, and cannot tell an id's slash from another."""
        raw: bytes = request.scope["raw_path"]
        sent = raw.partition(b"/v1/streams/")[2].decode("ascii", "replace").removesuffix(suffix)
        encoded_customer, slash, encoded_stream = sent.partition("/")
        key = (unquote(encoded_customer), unquote(encoded_stream)) if slash else (customer_id, stream_id)
        text_of("".join(key))
        return key

    return stream_key


stream_key = stream_key_before("")


def route_ending_in(suffix: str) -> type[APIRoute]:
    """A route that matches only where the suffix was sent as such: a stream's id may end in `%2Fevents`."""

    class SuffixRoute(APIRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            if not scope.get("raw_path", b"").endswith(suffix.encode()):
                return Match.NONE, {}
            return super().matches(scope)

    return SuffixRoute


def text_of(value: str | None) -> str | None:
    """A parameter that may be searched for."""
    # PostgreSQL's text cannot hold NUL, so nothing that is stored can match it.
    if value is not None and "\0" in value:
        raise InvalidParameterError("a parameter contains NUL, which no name here does")
    return value
