"""Many clients that ask an API for the same again and again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from tests.running_api import Api, http_client


@contextmanager
def hammered(api: Api, path: str, clients: int) -> Iterator[list[httpx2.Response]]:
    """As many clients ask for a path until the block ends; their answers so far."""
    answers: list[httpx2.Response] = []
    stop = threading.Event()

    def ask() -> None:
        with http_client(api.url, headers=dict(api.client.headers)) as client:
            while not stop.is_set():
                answers.append(client.get(path))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
