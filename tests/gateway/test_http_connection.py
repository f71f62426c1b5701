"""A connection to an upstream gives what has arrived in small parts, before it says how the connection broke."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from metering.gateway.connections import Connections, UnreachableError, server_of
from metering.gateway.http_connection import READ_BYTES, HttpConnection, HttpError, HttpTimeoutError
from tests.emitter.sink import free_port

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _exchange(
    written: bytes, *, reset: bool = False, read_timeout: float = 20.0, hold: bool = False
) -> list[bytes]:
    """What is read of an answer, part by part; errors are raised."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(written)
        await writer.drain()
        if hold:
            await reader.read()
        if reset:
            await asyncio.sleep(0.2)
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.close()

    return asyncio.run(_ask(answer, read_timeout))


async def _ask(answer: Answer, read_timeout: float) -> list[bytes]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    target, _ = server_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    connections = Connections()
    connection = await connections.take(target, timeout=10)
    parts: list[bytes] = []
    try:
        connection.request(b"GET / HTTP/1.1\r\n\r\n", b"", read_timeout=read_timeout)
        await connection.head()
        # What the upstream sends arrives before it is read, and so does the end of the connection.
        await asyncio.sleep(0.4)
        while part := await connection.read():
            parts.append(part)
    except HttpError as error:
        error.args = (*error.args, b"".join(parts))
        raise
    finally:
        connections.give_back(target, connection)
        connections.close()
        server.close()
    return parts


def test_a_large_body_comes_in_small_parts() -> None:
    body = b"x" * 1_000_000
    parts = _exchange(_HEAD + b"Content-Length: 1000000\r\n\r\n" + body)
    assert b"".join(parts) == body
    assert max(len(part) for part in parts) <= READ_BYTES


@pytest.mark.parametrize("reset", [False, True])
def test_what_arrived_is_read_before_the_break_is_told(reset: bool) -> None:
    chunk = b"5\r\nhello\r\n"
    with pytest.raises(HttpError) as caught:
        _exchange(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3, reset=reset)
    assert caught.value.args[-1] == b"hello" * 3


def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    assert b"".join(_exchange(_HEAD + b"\r\nhello")) == b"hello"


def test_interim_answers_and_trailers_are_left_out() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    body = b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"
    assert _exchange(interim + _HEAD + body) == [b"hi"]


@pytest.mark.parametrize(
    "written",
    [
        b"hello",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"",
    ],
)
def test_what_is_no_answer_is_an_error(written: bytes) -> None:
    with pytest.raises(HttpError):
        _exchange(written)


def test_a_silent_server_times_out() -> None:
    with pytest.raises(HttpTimeoutError, match="nothing was received"):
        _exchange(_HEAD + b"Content-Length: 9\r\n\r\nhello", read_timeout=0.6, hold=True)


def test_a_kept_connection_is_used_again_and_a_closed_one_is_not() -> None:
    async def run() -> list[HttpConnection]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_HEAD + b"Content-Length: 2\r\n\r\nhi")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        target, _ = server_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        connections = Connections()
        used = []
        for _ in range(3):
            connection = await connections.take(target, timeout=10)
            connection.request(b"GET / HTTP/1.1\r\n\r\n", b"", read_timeout=10)
            await connection.head()
            while await connection.read():
                continue
            await asyncio.sleep(0.1)
            connections.give_back(target, connection)
            used.append(connection)
        connections.close()
        server.close()
        return used

    first, second, third = asyncio.run(run())
    assert first is second
    assert second is not third


def test_a_server_that_is_not_there_is_unreachable() -> None:
    async def run() -> None:
        target, _ = server_of(f"http://127.0.0.1:{free_port()}")
        await Connections().take(target, timeout=10)

    with pytest.raises(UnreachableError):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "address", "port", "path"),
    [
        ("https://llm.example/v1", "llm.example", 443, "/v1"),
        ("http://llm.example:8080", "llm.example:8080", 8080, ""),
        ("http://[::1]:8080/v1/", "[::1]:8080", 8080, "/v1"),
        ("https://bücher.example/v1", "xn--bcher-kva.example", 443, "/v1"),
    ],
)
def test_a_url_names_server_and_path(url: str, address: str, port: int, path: str) -> None:
    server, found = server_of(url)
    assert (server.address, server.port, found) == (address, port, path)
