"""A network that breaks: a TCP proxy that cuts its first connections after some bytes of the answer."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class CuttingProxy:
    """Forwards to a port; each of `cuts` is how much of an answer one more connection lets through."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target = port
        self._cuts = cuts
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        # Shutting down wakes the thread that accepts; closing alone does not.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                left = self._cuts.pop(0) if self._cuts else 1 << 40
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=_forward, args=(client, server, 1 << 40), daemon=True).start()
                threading.Thread(target=_forward, args=(server, client, left), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, left: int) -> None:
    with suppress(OSError):
        while left > 0 and (data := source.recv(min(left, 65_536))):
            target.sendall(data)
            left -= len(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(url: str, cuts: list[int]) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(int(url.rpartition(":")[2]), cuts)
    try:
        yield proxy
    finally:
        proxy.stop()
