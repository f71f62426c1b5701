"""A client of the contract with bad habits: shuffles, repeats, splits at random, mixes forms and encodings."""

import gzip
import json
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import zstandard

from tests.running_api import http_client

Event = dict[str, Any]

JSON_TYPES = (
    "application/json",
    "application/cloudevents-batch+json; charset=utf-8",
    "application/json;charset=UTF-8",
)


def post_badly(
    *, url: str, key: str, events: Sequence[Event], rng: random.Random, threads: int = 4, waits: float = 60
) -> int:
    """Post every event at least once, most in odd company; returns how many requests it took.

    A request that is not answered with 200 is sent again until it is, as a gateway would.
    """
    again = [*events, *rng.choices(events, k=len(events) // 5)]
    rng.shuffle(again)
    batches: list[list[Event]] = []
    while again:
        size = rng.choice((1, 2, 7, 50, 200))
        batches.append(again[:size])
        again = again[size:]
    requests = [_request(batch, rng) for batch in batches]
    headers = {"authorization": f"Bearer {key}"}
    with http_client(url, headers=headers) as client, ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda request: _send(client, *request, waits), requests))
    return len(requests)


def _request(batch: list[Event], rng: random.Random) -> tuple[bytes, dict[str, str], int]:
    if len(batch) == 1 and rng.random() < 0.5:
        body, content_type = json.dumps(batch[0]).encode(), "application/cloudevents+json"
    elif rng.random() < 0.25:
        body = "\n".join(json.dumps(event, ensure_ascii=False) for event in batch).encode()
        content_type = "application/x-ndjson"
    else:
        body, content_type = json.dumps(batch, ensure_ascii=rng.random() < 0.5).encode(), rng.choice(JSON_TYPES)
    headers = {"content-type": content_type}
    if (encoding := rng.choice((None, "gzip", "zstd"))) is not None:
        body = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)
        headers["content-encoding"] = encoding
    return body, headers, len(batch)


def _send(client: httpx2.Client, body: bytes, headers: dict[str, str], count: int, waits: float) -> None:
    deadline = time.monotonic() + waits
    while True:
        try:
            answer = client.post("/v1/events", content=body, headers=headers)
        except httpx2.HTTPError:
            answer = None
        if answer is not None and answer.status_code == 200:
            told = answer.json()
            assert (told["accepted"], told["rejected"]) == (count, []), answer.text
            return
        assert answer is None or answer.status_code == 503, answer.text
        assert time.monotonic() < deadline
        time.sleep(0.1)
