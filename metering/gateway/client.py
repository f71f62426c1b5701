"""The client's side of a completion: its answer, as long as the client takes it.

`send` waits while the client is slow. What waits is bounded by the server's buffer, and how long it may wait is
bounded by the gateway, which looks at `blocked_since`.
"""

import asyncio

from starlette.types import Receive, Scope, Send

from metering.gateway.endpoints import Vendor
from metering.gateway.problems import Problem

Headers = list[tuple[bytes, bytes]]
SERVERS_SEND = "metering.gateway.send"
_ABORT_SECONDS = 1.0
_FRAME_SECONDS = 1.0


class Client:
    """Sends the answer to the client, or drops it once `left` is set."""

    def __init__(
        self, *, scope: Scope, receive: Receive, send: Send, stream_id: str, vendor: Vendor = Vendor.OPENAI
    ) -> None:
        self._vendor = vendor
        self._transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
        self._receive = receive
        self._send = send
        # The server's own `send`, without what Starlette wraps around it for each chunk.
        self._send_body: Send = scope.get(SERVERS_SEND, send)
        self._stream_id = stream_id.encode()
        self.headers_sent = False
        self.is_complete = False
        self.left = False
        self.blocked_since: float | None = None
        self._ends_within_event = False

    async def until_gone(self) -> None:
        """Returns once the client has closed its connection, or its answer is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            continue

    async def send_headers(self, status: int, headers: Headers) -> None:
        if self.left:
            return
        self.headers_sent = True
        headers = [*headers, (b"x-metering-stream-id", self._stream_id)]
        await self._pass({"type": "http.response.start", "status": status, "headers": headers})

    async def send_body(self, body: bytes) -> None:
        if not self.left:
            self._ends_within_event = not body.endswith((b"\n\n", b"\r\r", b"\r\n\r\n"))
            self.blocked_since = asyncio.get_running_loop().time()
            try:
                await self._send_body({"type": "http.response.body", "body": body, "more_body": True})
            finally:
                self.blocked_since = None

    async def finish(self, body: bytes = b"") -> None:
        """Send the last part of the answer."""
        if not self.left and not self.is_complete:
            self.is_complete = True
            await self._pass({"type": "http.response.body", "body": body, "more_body": False})

    async def send_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer in one piece."""
        await self.send_headers(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.finish(body)

    async def send_problem(self, problem: Problem) -> None:
        """Send the error as the answer, or as the last event of an answer that has begun."""
        if not self.headers_sent:
            await self.send_whole(
                problem.status, [(b"content-type", b"application/json")], problem.body(self._vendor)
            )
            return
        separator = b"\n\n" if self._ends_within_event else b""
        await self.finish(separator + problem.sse_event(self._vendor))

    async def say_goodbye(self, problem: Problem) -> None:
        """Send the error if the client takes it at once, then give it up."""
        try:
            async with asyncio.timeout(_FRAME_SECONDS):
                await self.send_problem(problem)
        except TimeoutError:
            await self.abort()

    async def abort(self) -> None:
        """Close the connection at once, with what the client has not taken."""
        self.left = True
        if self._transport is not None:
            self._transport.abort()
            try:
                async with asyncio.timeout(_ABORT_SECONDS):
                    await self.until_gone()
            except TimeoutError:
                return

    async def _pass(self, message: dict[str, object]) -> None:
        self.blocked_since = asyncio.get_running_loop().time()
        try:
            await self._send(message)
        finally:
            self.blocked_since = None
