"""`python -m metering.lab.chaos.clients ORDER`: many clients at once, which ask for holds and post their streams.

Beside them, a few clients send completions through the reference gateway (`chats.py`). The process is not a target
of faults: what it noted is what happened. A request without an answer is sent again until there is one.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2
import msgspec

from metering.core.clock import utc_now
from metering.emitter.cloudevents import encode_event, json_array
from metering.events.events import UsageEvent
from metering.lab.chaos.chats import Chats
from metering.lab.chaos.fates import PLAYED, REFUSED, RELEASED, Fate, Outcome, Plan, fate_of
from metering.lab.chaos.orders import Order, carry_out
from metering.lab.chaos.traffic import Clock, Life, cut, play

_TIMEOUT_SECONDS, _PAUSE_SECONDS = 5.0, 0.1
# A stream is posted in so many requests; one that may be stopped in more.
_POSTS, _SLIDING_POSTS = 2, 4
_WATCH_SECONDS, _LOOK_SECONDS = 60.0, 0.25
_SOURCE = "/gateways/chaos-clients"
_FIGURES = ("needed", "limit", "spent", "held")
WRONGLY_REFUSED = "refused although it would fit"
_JSON = "application/cloudevents-batch+json"


class ClientsOrder(Order, frozen=True, kw_only=True):
    """So many `clients` begin streams at this rate until `finish` exists; beside them, so many `chats`."""

    url: str
    key: str
    gateway_url: str
    gateway_key: str
    seed: int
    clients: int
    streams_per_second: float
    chats: int = 4


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the streams by their numbers, counts, and the streams that went through the gateway."""

    outcomes: list[Outcome]
    counted: dict[str, int]
    chatted: list[str]


class _Clients:
    """The clients, with one pool of connections to the API."""

    def __init__(self, order: ClientsOrder, http: httpx2.AsyncClient) -> None:
        self._order, self._http = order, http
        self.counted: Counter[str] = Counter()
        self.outcomes: dict[int, Outcome] = {}
        self._next, self._began = 0, time.monotonic()

    async def run(self) -> None:
        """All of them, until they are done."""
        await asyncio.gather(*(self._client() for _ in range(self._order.clients)))

    async def _client(self) -> None:
        order = self._order
        while not order.finish.exists():
            number, self._next = self._next, self._next + 1
            await asyncio.sleep(self._began + number / order.streams_per_second - time.monotonic())
            fate = fate_of(seed=order.seed, number=number)
            outcome = self.outcomes[number] = await self._play(fate)
            self.counted["cut"] += isinstance(outcome, int)

    async def _play(self, fate: Fate) -> Outcome:
        if fate.hold is not None and not await self._ask(fate.hold):
            return REFUSED
        path = f"{fate.story.customer_id}/{fate.story.stream_id}"
        if fate.plan is Plan.RELEASED:
            await self._send("DELETE", f"/v1/holds/{path}")
            return RELEASED
        if fate.plan is Plan.LAPSED:
            await self._until(lambda: self._has_lapsed(fate))
        clock = Clock(now=utc_now())
        events = []
        for event in play(fate.story, clock):
            clock.set(clock.read() + timedelta(milliseconds=1))
            events.append(event)
        if fate.plan in (Plan.LATE, Plan.LESS):
            await self._post(events[:-1])
            await self._until(lambda: self._is_final(path))
            await self._post(events[-1:])
            return PLAYED
        return await self._post_all(fate, events, clock)

    async def _post_all(self, fate: Fate, events: Sequence[UsageEvent], clock: Clock) -> Outcome:
        """Post a stream in several requests. It ends early if an answer says that its budget is exhausted."""
        size = -(-len(events) // (_SLIDING_POSTS if fate.plan is Plan.SLIDING else _POSTS))
        counts = len(fate.story.delivered)
        for begin in range(0, len(events), size):
            piece = events[begin : begin + size]
            stopped = await self._post(piece)
            sent = begin + len(piece) - 1
            if fate.story.stream_id in stopped:
                self.counted["told to stop"] += 1
                # A stream with a wrong clock sends its events a second time: what was sent does not end there.
                if sent <= counts and fate.story.life is not Life.WRONG_CLOCK:
                    clock.set(utc_now())
                    await self._post([cut(fate.story, clock)])
                    return sent
        return PLAYED

    async def _ask(self, hold: Mapping[str, Any]) -> bool:
        """Whether the hold is admitted."""
        self.counted["asked"] += 1
        answer = await self._send("POST", "/v1/holds", msgspec.json.encode(hold), expected=(201, 402))
        if answer.status_code == 201:
            return True
        self.counted["refused"] += 1
        said = answer.json()
        needed, limit, spent, held = (Decimal(said[f"{name}_usd_cents"]) for name in _FIGURES)
        self.counted[WRONGLY_REFUSED] += spent + held + needed <= limit
        return False

    async def _post(self, events: Sequence[UsageEvent]) -> Sequence[str]:
        """Post events; returns the streams that have to stop."""
        body = json_array([encode_event(event=event, source=_SOURCE) for event in events])
        answer = (await self._send("POST", "/v1/events", body, media_type=_JSON)).json()
        self.counted["events rejected"] += len(answer.get("rejected", ()))
        stop: Sequence[str] = answer.get("stop", ())
        return stop

    async def _has_lapsed(self, fate: Fate) -> bool:
        answer = await self._send("GET", f"/v1/holds?customer_id={fate.story.customer_id}&limit=1000")
        return all(each["stream_id"] != fate.story.stream_id for each in answer.json()["data"])

    async def _is_final(self, path: str) -> bool:
        answer = await self._send("GET", f"/v1/streams/{path}")
        return bool(answer.json()["state"] == "finalized")

    async def _until(self, is_so: Callable[[], Any]) -> None:
        deadline = time.monotonic() + _WATCH_SECONDS
        while not await is_so() and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        media_type: str = "application/json",
        expected: Sequence[int] = (200, 204),
    ) -> httpx2.Response:
        """Send a request until it is answered as expected."""
        headers = {"content-type": media_type} if body is not None else {}
        while True:
            try:
                answer = await self._http.request(method, path, content=body, headers=headers)
            except httpx2.HTTPError:
                self.counted["requests without an answer"] += 1
            else:
                if answer.status_code in expected:
                    return answer
                self.counted[f"answers with {answer.status_code}"] += 1
            await asyncio.sleep(_PAUSE_SECONDS)


async def _run(order: ClientsOrder) -> Result:
    headers = {"authorization": f"Bearer {order.key}"}
    limits = httpx2.Limits(max_connections=order.clients, max_keepalive_connections=order.clients)
    async with httpx2.AsyncClient(
        base_url=order.url, headers=headers, limits=limits, timeout=_TIMEOUT_SECONDS
    ) as http:
        clients = _Clients(order, http)
        chats = Chats(url=order.gateway_url, key=order.gateway_key, seed=order.seed)
        chatting = asyncio.create_task(chats.run(order.chats))
        await clients.run()
        chats.finish()
        await chatting
    return Result(
        outcomes=[clients.outcomes[number] for number in range(len(clients.outcomes))],
        counted=dict(clients.counted + chats.counted),
        chatted=chats.streams,
    )


if __name__ == "__main__":
    carry_out(ClientsOrder, lambda order: asyncio.run(_run(order)))
