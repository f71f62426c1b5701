"""Receivers of webhooks: a real HTTP server that answers as it is told, and sockets that misbehave."""

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

# A certificate of hooks.test, signed by itself, and its key.
CERTIFICATE = Path(__file__).parent / "hooks.test.pem"


@dataclass(frozen=True, slots=True)
class Received:
    """A request, as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass(slots=True)
class Receiver:
    """What arrived, and how to answer: `answers` one after another, then 204. `hold` keeps all answers back."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: deque[tuple[int, Mapping[str, str]]] = field(default_factory=deque)
    hold: threading.Event = field(default_factory=threading.Event)

    def answer(self, *statuses: int, **headers: str) -> None:
        self.answers.extend(
            (status, {key.replace("_", "-"): headers[key] for key in headers}) for status in statuses
        )

    def message_ids(self) -> list[str]:
        return [each.message_id for each in self.received]

    def __call__(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str]]:
        self.received.append(Received(path, headers, body))
        self.hold.wait(timeout=60)
        return self.answers.popleft() if self.answers else (204, {})


def _application(receiver: Receiver) -> Callable[..., Any]:
    def handle(path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str]]:
        return receiver(path, headers, body)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, extra = await asyncio.to_thread(handle, scope["path"], headers, body)
        sent = [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": b""})

    return application


@contextmanager
def receiving(*, host: str = "127.0.0.1", port: int = 0, tls: bool = False) -> Iterator[Receiver]:
    """A receiver on a loopback address, until the block ends."""
    receiver = Receiver()
    receiver.hold.set()
    certificate = {"ssl_certfile": str(CERTIFICATE), "ssl_keyfile": str(CERTIFICATE)} if tls else {}
    server = uvicorn.Server(
        uvicorn.Config(
            _application(receiver),
            host=host,
            port=port,
            log_config=None,
            lifespan="off",
            **certificate,  # type: ignore[arg-type]
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    bound = server.servers[0].sockets[0].getsockname()[1]
    receiver.url = f"{'https' if tls else 'http'}://{'hooks.test' if tls else host}:{bound}"
    try:
        yield receiver
    finally:
        receiver.hold.set()
        server.should_exit = True
        thread.join(timeout=60)


@contextmanager
def misbehaving(chunks: Callable[[], Iterator[bytes]], *, pause: float = 0.0) -> Iterator[tuple[str, list[int]]]:
    """A server that answers any request with these chunks, and counts for each how many bytes it could send."""
    sent: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    place = len(sent)
                    sent.append(0)
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        for chunk in chunks():
                            connection.sendall(chunk)
                            sent[place] += len(chunk)
                            time.sleep(pause)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", sent
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=60)
