"""A request as ASGI gives it: its headers, its query and its body."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.api.incoming import ClientGoneError, Incoming


def incoming(
    *parts: bytes, headers: dict[str, str] | None = None, query: bytes = b"", gone: bool = False
) -> Incoming:
    """A request whose body comes in these parts; `gone`: its client leaves before the last one is complete."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if gone:
        messages.append({"type": "http.disconnect"})
    elif messages:
        messages[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    named = headers if headers is not None else {"transfer-encoding": "chunked"}
    scope = {
        "path": "/v1/events",
        "query_string": query,
        "client": ("10.0.0.1", 5),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    return Incoming(scope, receive)


def body_of(request: Incoming, *, most: int = 100) -> bytes | None:
    return asyncio.run(request.body(most=most))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_a_body_is_whole_if_it_is_not_longer_than_it_may_be(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert body_of(incoming(*parts)) == (whole if len(whole) <= 100 else None)


@pytest.mark.parametrize("declared", ["101", "9" * 9_999])
def test_a_body_that_is_declared_too_long_is_not_read(declared: str) -> None:
    assert body_of(incoming(headers={"content-length": declared})) is None


@pytest.mark.parametrize("headers", [{}, {"content-length": "0"}])
def test_without_a_body_none_is_waited_for(headers: dict[str, str]) -> None:
    assert body_of(incoming(headers=headers)) == b""


def test_a_client_that_leaves_is_noticed() -> None:
    with pytest.raises(ClientGoneError):
        body_of(incoming(b"half", gone=True))


def test_of_a_header_that_comes_twice_the_first_counts() -> None:
    request = incoming(b"")
    request.scope["headers"].extend([(b"authorization", b"Bearer one"), (b"authorization", b"Bearer two")])
    again = Incoming(request.scope, request._receive)
    assert (again.header(b"authorization"), again.header(b"content-type")) == ("Bearer one", None)


def test_the_query_and_the_address_are_read() -> None:
    request = incoming(b"", query=b"dialect=envoy&empty=&name=a%20b")
    assert request.query == {"dialect": "envoy", "empty": "", "name": "a b"}
    assert (request.address, incoming(b"").query) == ("10.0.0.1", {})
