"""An HTTP client of the tests' own: posts events in any order, batching and encoding, and reads the answers."""

import gzip
import json
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote, urlencode, urlsplit

import zstandard

POST_THREADS = 4
GIVE_UP_AFTER = 60.0
BATCH = "application/cloudevents-batch+json"
SINGLE = "application/cloudevents+json"
LINES = "application/x-ndjson"
PLAIN = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)


@dataclass(slots=True)
class Tally:
    """What a posting run really sent and met, so that a test can fail on a zero."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, count: int = 1) -> None:
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + count


class Client:
    """One key on one service. Every thread keeps a connection of its own."""

    def __init__(self, url: str, key: str | None) -> None:
        self._address = urlsplit(url).netloc
        self._key = key
        self._local = threading.local()

    def with_key(self, key: str | None) -> "Client":
        return Client(f"http://{self._address}", key)

    def request(self, method: str, path: str, *, body: bytes | None = None, **headers: str) -> Answer:
        """Send once more when a kept connection turns out to be closed.

        Raises:
            OSError: the service cannot be reached.
            HTTPException: the service broke off its answer.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self._key is not None:
            named.setdefault("Authorization", f"Bearer {self._key}")
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                return self._send(kept, method, path, body, named)
            except (OSError, HTTPException):
                kept.close()
        self._local.connection = HTTPConnection(self._address, timeout=60)
        return self._send(self._local.connection, method, path, body, named)

    def get(self, path: str, **query: object) -> dict:
        """The JSON of an answer that must be 200."""
        answer = self.request("GET", f"{path}?{urlencode(query)}" if query else path)
        assert answer.status == 200, (path, query, answer.status, answer.body[:500])
        return answer.json()

    def pages(self, path: str, **query: object) -> Iterator[dict]:
        """Every row of a keyset-paginated list."""
        cursor: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            page = self.get(path, **query, **cursor)
            assert len(page["data"]) <= query.get("limit", 100)
            yield from page["data"]
            if page["next_cursor"] is None:
                return
            assert page["next_cursor"] not in seen, "a cursor came back"
            seen.add(page["next_cursor"])
            cursor = {"cursor": page["next_cursor"]}

    def stream(self, customer_id: str, stream_id: str) -> dict | None:
        """`GET /v1/streams/...`, or None where there is none."""
        answer = self.request("GET", f"/v1/streams/{segment(customer_id)}/{segment(stream_id)}")
        assert answer.status in (200, 404), (customer_id, stream_id, answer.status, answer.body[:500])
        return answer.json() if answer.status == 200 else None

    def post(self, events: Sequence[dict], media_type: str = BATCH, **headers: str) -> Answer:
        """Post events once, in this order."""
        return self.request(
            "POST", "/v1/events", body=encode(events, media_type), Content_Type=media_type, **headers
        )

    def deliver(self, body: bytes, tally: Tally, *, tolerant: bool = False, **headers: str) -> Answer:
        """Post until it is acknowledged; `tolerant` of a service that is killed meanwhile."""
        deadline = time.monotonic() + GIVE_UP_AFTER
        while True:
            try:
                answer = self.request("POST", "/v1/events", body=body, **headers)
                if answer.status != 503:
                    return answer
                assert "retry-after" in answer.headers
                tally.add("answered 503")
            except (OSError, HTTPException):
                if not tolerant:
                    raise
                tally.add("broken connection")
            assert time.monotonic() < deadline, "not acknowledged in time"
            time.sleep(0.05)

    @staticmethod
    def _send(
        connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        if connection.sock is None:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        lowered = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lowered, response.read())


def segment(text: str) -> str:
    """A path segment; the dots of `.` and `..` too, which would mean another folder."""
    return quote(text, safe="").replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def encode(events: Sequence[dict], media_type: str) -> bytes:
    """The body of a request with this media type, parameters aside."""
    kind = media_type.partition(";")[0].strip()
    if kind == LINES:
        return b"".join(json.dumps(event).encode() + b"\n" for event in events)
    if kind == SINGLE:
        assert len(events) == 1
        return json.dumps(events[0], ensure_ascii=False).encode()
    return json.dumps(list(events), ensure_ascii=False).encode()


def split(events: Iterable[dict], rng: random.Random, *, largest: int = 400) -> Iterator[list[dict]]:
    """Batches of random sizes, single ones among them."""
    rest = list(events)
    while rest:
        size = rng.choice((1, 2, 7, 50, largest))
        yield rest[:size]
        del rest[:size]


def pack(batch: Sequence[dict], rng: random.Random, tally: Tally) -> tuple[bytes, dict[str, str]]:
    """A body and its headers, in any form that the contract allows."""
    kinds = (BATCH, PLAIN, LINES, *((SINGLE, PLAIN + " ") if len(batch) == 1 else ()))
    kind = rng.choice(kinds)
    if kind == PLAIN + " ":  # a single event as plain JSON
        kind, body = PLAIN, encode(batch, SINGLE)
    else:
        body = encode(batch, kind)
    coding = rng.choice(("identity", "gzip", "deflate", "zstd"))
    headers = {"Content_Type": kind + rng.choice(("", "; charset=utf-8", ";charset=UTF-8", '; charset="utf-8"'))}
    if coding == "gzip":
        body = gzip.compress(body, compresslevel=1)
    elif coding == "deflate":
        body = zlib.compress(body, level=1)
    elif coding == "zstd":
        body = zstandard.compress(body)
    if coding != "identity":
        headers["Content_Encoding"] = coding
    tally.add(f"{kind} {coding}")
    return body, headers


def post_all(
    client: Client,
    events: Sequence[dict],
    rng: random.Random,
    *,
    duplicated: float = 0.5,
    tolerant: bool = False,
    after_each: Callable[[], None] = lambda: None,
) -> Tally:
    """Post a set of events shuffled, partly duplicated, in random batches and forms, from several threads."""
    tally = Tally()
    bag = [*events, *(event for event in events if rng.random() < duplicated)]
    rng.shuffle(bag)
    packed = [(batch, *pack(batch, rng, tally)) for batch in split(bag, rng)]

    def deliver(item: tuple[list[dict], bytes, dict[str, str]]) -> None:
        batch, body, headers = item
        answer = client.deliver(body, tally, tolerant=tolerant, **headers)
        assert answer.status == 200, (answer.status, answer.body[:1000], batch[:2])
        told = answer.json()
        assert (told["accepted"], told["rejected"]) == (len(batch), []), answer.body[:1000]
        tally.add("events", len(batch))
        after_each()

    with ThreadPoolExecutor(POST_THREADS) as pool:
        list(pool.map(deliver, packed))
    tally.add("duplicates", len(bag) - len(events))
    return tally
