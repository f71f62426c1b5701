"""Webhooks: each event is posted, signed as Stripe signs, until it is taken; twice or shuffled on demand."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import time
from enum import StrEnum

import httpx2

from metering.stripe_local.store import Document, Store

_MAX_WAITING = 10_000
_TRIES = 6


class DeliveryMode(StrEnum):
    """How events are delivered."""

    ONCE = "once"
    TWICE = "twice"
    SHUFFLED = "shuffled"  # what waits, twice and in any order
    HOLD = "hold"


class Deliveries:
    """A bounded queue of events, and the task that posts them; none is posted without a URL."""

    def __init__(self, store: Store, *, url: str | None, secret: str | None) -> None:
        self._url, self._secret = url, secret or ""
        self._mode = DeliveryMode.ONCE
        self._waiting: list[Document] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if url is not None:
            store.listener = self._add

    def start(self) -> None:
        """Begin to post."""
        if self._url is not None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Post no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def set_mode(self, mode: str) -> None:
        """How events are delivered from now on."""
        self._mode = DeliveryMode(mode)
        if self._mode is not DeliveryMode.HOLD:
            self._more.set()

    def release(self) -> None:
        """Deliver what was held back, twice and shuffled."""
        self.set_mode(DeliveryMode.SHUFFLED)

    def _add(self, event: Document) -> None:
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(event)
            if self._mode is not DeliveryMode.HOLD:
                self._more.set()

    async def _run(self) -> None:
        async with httpx2.AsyncClient(timeout=10) as http:
            while True:
                await self._more.wait()
                self._more.clear()
                taken, self._waiting = self._waiting, []
                if self._mode in (DeliveryMode.TWICE, DeliveryMode.SHUFFLED):
                    taken = taken * 2
                if self._mode is DeliveryMode.SHUFFLED:
                    random.shuffle(taken)
                for event in taken:
                    await self._post(http, event)

    async def _post(self, http: httpx2.AsyncClient, event: Document) -> None:
        body = json.dumps(event).encode()
        for attempt in range(_TRIES):
            headers = {"content-type": "application/json", "stripe-signature": sign(body, self._secret)}
            with contextlib.suppress(httpx2.HTTPError):
                assert self._url is not None
                if (await http.post(self._url, content=body, headers=headers)).is_success:
                    return
            await asyncio.sleep(min(0.1 * 2**attempt, 2.0))


def sign(body: bytes, secret: str) -> str:
    """The header `Stripe-Signature` for a body (docs.stripe.com/webhooks/signature)."""
    at = int(time.time())
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signature}"
