"""Bytes to a running API and back, what must hold for every answer, and how many examples the properties get."""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hypothesis

# Requests of each property, or of each operation and phase of schemathesis. `make fuzz` sets it.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
PROBLEM = b"application/problem+json"


def examples(usual: int) -> hypothesis.settings:
    """Settings of a property: the same examples in each run, or more and new ones from `make fuzz`."""
    quiet = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
    return hypothesis.settings(
        max_examples=EXAMPLES or usual,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=quiet,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was received."""

    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def exchange(url: str, sent: bytes, *, patience: float | None = None) -> bytes:
    """What comes back for these bytes until the server closes the connection, or `patience` seconds are over.

    Raises:
        TimeoutError: without `patience`, the connection was not closed for a minute.
    """
    host, port = url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=patience or 60) as client:
        try:
            client.sendall(sent)
            while chunk := client.recv(65_536):
                received += chunk
        except TimeoutError:
            if patience is None:
                raise
        except ConnectionError:  # what was left to read was dropped with the connection
            pass
    return received


Header = tuple[bytes, bytes]


def request(
    url: str,
    method: str,
    target: bytes,
    *,
    headers: list[Header],
    body: bytes | None = None,
    chunks: int | None = None,
) -> Answer:
    """Send one request with these bytes in it, its body whole or in chunks. The answer ends the connection."""
    sent = [(b"host", b"x"), (b"connection", b"close"), *headers]
    if body is not None and chunks is None:
        sent.append((b"content-length", b"%d" % len(body)))
    elif body is not None and chunks is not None:
        sent.append((b"transfer-encoding", b"chunked"))
        body = _chunked(body, chunks)
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in sent)
    answer = exchange(url, method.encode() + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + (body or b""))
    assert answer, (method, target, "no answer")
    head, _, rest = answer.partition(b"\r\n\r\n")
    head = head.lower()
    return Answer(int(head[9:12]), head, _unchunked(rest) if b"transfer-encoding: chunked" in head else rest)


def _chunked(body: bytes, size: int) -> bytes:
    parts = (body[place : place + size] for place in range(0, len(body), size))
    return b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in parts) + b"0\r\n\r\n"


def _unchunked(rest: bytes) -> bytes:
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
    return body


class _Failures(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


@contextmanager
def nothing_fails() -> Iterator[None]:
    """Fails if an error, or a traceback, is logged in the block. The server runs in a thread of this process."""
    handler = _Failures()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    assert handler.records == []
