"""Thousands of connections that do nothing, drip or do not read, from several addresses: a gateway is answered."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from metering.access.scopes import Role
from tests.api.test_nobody_stops_anybody import Client, Process, process, request
from tests.builders.posted import delivered

__all__ = ["process"]

# More than an API process may have in all, and fewer than an address may have.
ADDRESSES, EACH = 6, 350
HEAD = b"GET /v1/rates HTTP/1.1\r\nhost: x\r\nx: "
READS_NOTHING = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 12
# The machine does other things as well.
MOST_SECONDS = 40.0


def connect(address: str, port: int, sent: bytes) -> socket.socket | None:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(5)
    try:
        client.bind((address, 0))
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        client.send(sent)
    except OSError:
        client.close()
        return None
    return client


def hold(address: str, port: int, sent: bytes, drip: bool, stop: threading.Event, open_now: list[int]) -> None:
    """Keep this many connections open, until told to stop."""
    held: list[socket.socket] = []
    number = len(open_now)
    open_now.append(0)
    while not stop.wait(0.1):
        while len(held) < EACH and not stop.is_set():
            client = connect(address, port, sent)
            if client is None:
                break
            held.append(client)
        for client in held.copy():
            try:
                if drip:
                    client.send(b"a")
                if sent is not READS_NOTHING and client.recv(1000) == b"":
                    raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                client.close()
                held.remove(client)
        open_now[number] = len(held)
    for client in held:
        client.close()


@contextmanager
def attack(port: int) -> Iterator[list[int]]:
    stop, open_now = threading.Event(), []
    kinds = [(b"", False), (HEAD, True), (READS_NOTHING, False)] * 2
    threads = [
        threading.Thread(target=hold, args=(f"127.0.0.{number + 2}", port, *kind, stop, open_now))
        for number, kind in enumerate(kinds)
    ]
    for thread in threads:
        thread.start()
    try:
        yield open_now
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def worst_of(process: Process, sent: bytes, *, kept: bool, seconds: float) -> tuple[float, int]:
    """The longest answer, and how often a connection had to be made again."""
    client: Client | None = None
    worst, again = 0.0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        while True:
            with suppress(OSError, IndexError):
                client = client if client is not None and kept else Client(process.port)
                assert client.send(sent) == 200
                break
            client = None
            again += 1
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.1)
    return worst, again


def test_a_gateway_is_answered_while_thousands_of_connections_are_open(process: Process) -> None:
    sent = request(process.key(Role.INGEST), json.dumps([delivered()]).encode())
    with attack(process.port) as open_now:
        time.sleep(3)
        kept, again = worst_of(process, sent, kept=True, seconds=5)
        fresh, refused = worst_of(process, sent, kept=False, seconds=5)
        print(
            f"{sum(open_now)} open; kept: worst {kept:.2f} s, {again} again; fresh: {fresh:.2f} s, {refused} again"
        )
        assert sum(open_now) > 1_500
    assert max(kept, fresh) < MOST_SECONDS
