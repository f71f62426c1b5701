"""Webhooks: posts each event, signed as Stripe signs it, until it is accepted or the attempts run out.

Events can also be posted twice, shuffled or held, on demand.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import time
from collections import deque
from enum import StrEnum

import httpx2

from metering.lab.stripe_local.store import Document, Store

_MAX_WAITING = 10_000
_TRIES = 6
# Events within this time are shuffled together.
_GATHER_SECONDS = 0.2


class DeliveryMode(StrEnum):
    """The ways to deliver events."""

    ONCE = "once"
    TWICE = "twice"
    SHUFFLED = "shuffled"  # the waiting events, twice and in random order
    HOLD = "hold"


class Deliveries:
    """A bounded queue of events, and the task that posts them; without a URL it does nothing."""

    def __init__(self, store: Store, *, url: str | None, secret: str | None) -> None:
        self._url, self._secret = url, secret or ""
        self._mode = DeliveryMode.ONCE
        self._waiting: deque[Document] = deque()
        self._posting: deque[Document] = deque()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._made: deque[Document] = deque(maxlen=_MAX_WAITING)
        if url is not None:
            store.listener = self._add

    def start(self) -> None:
        """Start to post; call it in the event loop."""
        if self._url is not None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop to post."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def set_mode(self, mode: str) -> None:
        """Set the delivery mode (`DeliveryMode`) from now on."""
        self._mode = DeliveryMode(mode)
        if self._mode is not DeliveryMode.HOLD:
            self._more.set()

    def release(self) -> None:
        """Deliver the held events, twice and shuffled."""
        self.set_mode(DeliveryMode.SHUFFLED)

    def reset(self) -> None:
        """Forget all waiting and posted events, and restore the mode of the start."""
        for each in (self._waiting, self._posting, self._made):
            each.clear()
        self._mode = DeliveryMode.ONCE
        if self._task is not None:
            self._task.cancel()
            self.start()

    def describe(self) -> Document:
        """The number of `waiting` events, and the posts `made`, oldest first, each with its HTTP status."""
        return {"waiting": len(self._waiting) + len(self._posting), "made": list(self._made)}

    def _add(self, event: Document) -> None:
        if len(self._waiting) < _MAX_WAITING:
            self._waiting.append(event)
            if self._mode is not DeliveryMode.HOLD:
                self._more.set()

    async def _run(self) -> None:
        async with httpx2.AsyncClient(timeout=10) as http:
            while True:
                await self._more.wait()
                if self._mode is DeliveryMode.SHUFFLED:
                    await asyncio.sleep(_GATHER_SECONDS)
                self._more.clear()
                self._take()
                while self._posting:
                    await self._post(http, self._posting[0])
                    self._posting.popleft()

    def _take(self) -> None:
        if self._mode is DeliveryMode.HOLD:
            return
        taken = list(self._waiting)
        self._waiting.clear()
        if self._mode is not DeliveryMode.ONCE:
            taken = taken * 2
        if self._mode is DeliveryMode.SHUFFLED:
            random.shuffle(taken)
        self._posting.extend(taken)

    async def _post(self, http: httpx2.AsyncClient, event: Document) -> None:
        assert self._url is not None
        body = json.dumps(event).encode()
        record = {"id": event["id"], "type": event["type"], "object": event["data"]["object"]["id"]}
        for attempt in range(_TRIES):
            headers = {"content-type": "application/json", "stripe-signature": sign(body, self._secret)}
            status = None
            with contextlib.suppress(httpx2.HTTPError):
                status = (await http.post(self._url, content=body, headers=headers)).status_code
            self._made.append({**record, "status": status})
            if status is not None and 200 <= status < 300:
                return
            await asyncio.sleep(min(0.1 * 2**attempt, 2.0))


def sign(body: bytes, secret: str, *, at: int | None = None) -> str:
    """The header `Stripe-Signature` of a body (docs.stripe.com/webhooks/signature); `at` is in seconds."""
    at = int(time.time()) if at is None else at
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signature}"
