"""The client's side of a completion: its answer, as long as the client takes it.

`send` waits while the client is slow. What waits is bounded by the server's buffer, and how long it may wait is
bounded by the gateway, which looks at `blocked_since`. If a copy is kept, the answer goes on without the client.
"""

import asyncio

from starlette.types import Receive, Scope, Send

from metering.gateway.endpoints import Vendor
from metering.gateway.problems import Problem
from metering.gateway.resume.copy import Copy

Headers = list[tuple[bytes, bytes]]
SERVERS_SEND = "metering.gateway.send"
_TRUTH = {True: b"true", False: b"false"}
_ABORT_SECONDS = 1.0
_FRAME_SECONDS = 1.0


class Client:
    """Sends the answer to the client, or drops it once `left` is set; into its copy as long as that is kept.

    `resumed` says whether the answer is that of an earlier request; None if the client sent no `X-Resume-Key`.
    """

    def __init__(
        self,
        *,
        scope: Scope,
        receive: Receive,
        send: Send,
        stream_id: str,
        vendor: Vendor = Vendor.OPENAI,
        resumed: bool | None = None,
        copy: Copy | None = None,
    ) -> None:
        self.copy = copy
        self._resumed = resumed
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

    @property
    def takes(self) -> bool:
        """Whether anything is done with what is sent."""
        return not self.left or (self.copy is not None and self.copy.is_kept)

    async def send_headers(self, status: int, headers: Headers) -> None:
        if not self.takes:
            return
        self.headers_sent = True
        if self.copy is not None:
            self.copy.start(status, headers)
        if not self.left:
            headers = [*headers, *self._own_headers()]
            await self._pass({"type": "http.response.start", "status": status, "headers": headers})

    def _own_headers(self) -> Headers:
        own = [(b"x-metering-stream-id", self._stream_id)]
        if self._resumed is not None:
            resumable = self._resumed or (self.copy is not None and self.copy.is_kept)
            own.append((b"x-metering-resumed", _TRUTH[self._resumed]))
            own.append((b"x-metering-resumable", _TRUTH[resumable]))
        return own

    async def send_body(self, body: bytes) -> None:
        if not self.takes:
            return
        self._ends_within_event = not body.endswith((b"\n\n", b"\r\r", b"\r\n\r\n"))
        if self.copy is not None:
            self.copy.add(body)
        if not self.left:
            self.blocked_since = asyncio.get_running_loop().time()
            try:
                await self._send_body({"type": "http.response.body", "body": body, "more_body": True})
            finally:
                self.blocked_since = None

    async def finish(self, body: bytes = b"") -> None:
        """Send the last part of the answer."""
        if self.is_complete or not self.takes:
            return
        self.is_complete = True
        if self.copy is not None:
            self.copy.end(body)
        if not self.left:
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

    def disconnect(self) -> bool:
        """Close the connection at once, and let the answer go on; False where the server does not allow it."""
        if self._transport is None:
            return False
        self._transport.abort()
        return True

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
