"""Clients of the reference gateway: each asks for one streamed completion after another, and reads it."""

import asyncio
import json
from collections import Counter
from random import Random
from typing import Any

import httpx2

from metering.lab.chaos.oracle import CHAT_MODEL

# The tokens of an answer, and how many come in a second.
_TOKENS, _RATE = (60, 900), 120
_TIMEOUT_SECONDS, _PAUSE_SECONDS = 15.0, 0.3
# A gateway that is killed within less time may not have written down that the stream began.
_SURE_AFTER_CHUNKS = 120
_QUESTION = {"role": "user", "content": "How did the harbour master keep his books?"}
_EXHAUSTED = "budget_exhausted"


class Chats:
    """Some clients. `streams` has the ids of those that the gateway must have reported."""

    def __init__(self, *, url: str, key: str, seed: int) -> None:
        self._url, self._key = url, key
        self._random = Random(f"chats {seed}")
        self._finishing = False
        self.counted: Counter[str] = Counter()
        self.streams: list[str] = []

    def finish(self) -> None:
        """Begin no more completions."""
        self._finishing = True

    async def run(self, clients: int) -> None:
        """So many at once, until told to finish."""
        headers = {"authorization": f"Bearer {self._key}"}
        async with httpx2.AsyncClient(base_url=self._url, headers=headers, timeout=_TIMEOUT_SECONDS) as http:
            await asyncio.gather(*(self._client(http) for _ in range(clients)))

    async def _client(self, http: httpx2.AsyncClient) -> None:
        while not self._finishing:
            try:
                went_well = await self._chat(http)
            except httpx2.HTTPError:
                self.counted["chats without an end"] += 1
                went_well = False
            if not went_well:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _chat(self, http: httpx2.AsyncClient) -> bool:
        """Whether a completion was answered."""
        tokens = self._random.randint(*_TOKENS)
        body = {"model": CHAT_MODEL, "stream": True, "bench": [tokens, _RATE], "messages": [_QUESTION]}
        self.counted["chats"] += 1
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                code = _code_of(await answer.aread())
                self.counted[f"chats refused: {code}"] += 1
                return False
            chunks = 0
            async for line in answer.aiter_lines():
                chunks += line.startswith("data:")
                if chunks == _SURE_AFTER_CHUNKS and line.startswith("data:"):
                    self.streams.append(answer.headers["x-metering-stream-id"])
                if '"error"' in line and _EXHAUSTED in line:
                    self.counted["chats cut"] += 1
            self.counted["chats read to the end"] += 1
        return True


def _code_of(body: bytes) -> Any:
    try:
        return json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return "without a code"
