"""Many clients at once, each asking for the same again and again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2

from tests.running_api import Api, http_client


@contextmanager
def in_threads(work: Callable[[threading.Event], None], count: int) -> Iterator[None]:
    """Run the work in as many threads until the block ends, which sets the event that they are given."""
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(stop,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def hammered(api: Api, path: str, clients: int) -> Iterator[list[httpx2.Response]]:
    """As many clients ask for a path until the block ends; their answers so far."""
    answers: list[httpx2.Response] = []

    def ask(stop: threading.Event) -> None:
        with http_client(api.url, headers=dict(api.client.headers)) as client:
            while not stop.is_set():
                answers.append(client.get(path))

    with in_threads(ask, clients):
        yield answers
