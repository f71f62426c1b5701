"""A request as ASGI gives it, for what is answered ahead of FastAPI: cheaper than Starlette's, and no more."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from metering.streams.ingest.body import is_longer


class ClientGoneError(Exception):
    """The client has left before its request was complete, or had its turn."""


class Incoming:
    """One request; its body can be read once."""

    __slots__ = ("_headers", "_receive", "path", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.path: str = scope["path"]
        self._receive = receive
        # Of a header that comes twice, the first counts.
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))

    def header(self, name: bytes) -> str | None:
        """A header by its name in small letters."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query."""
        text: bytes = self.scope["query_string"]
        return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True)) if text else {}

    @property
    def address(self) -> str:
        """The client's address."""
        client = self.scope.get("client")
        return client[0] if client else ""

    async def body(self, *, most: int) -> bytes | None:
        """The whole body as sent. If it has more than `most` bytes, reading stops, and the result is None.

        Raises:
            ClientGoneError: the client leaves meanwhile.
        """
        declared = self.header(b"content-length")
        if declared == "0" or (declared is None and b"transfer-encoding" not in self._headers):
            return b""
        if is_longer(declared, most):
            return None
        received: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > most:
                return None
            received.append(chunk)
            if not message.get("more_body", False):
                return received[0] if len(received) == 1 else b"".join(received)
