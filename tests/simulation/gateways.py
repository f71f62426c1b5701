"""Gateways and their network: events are sent at least once, in batches, late, twice and in disorder."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from metering.events.store import JournalEntry, stream_hashes
from metering.events.wire.bodies import pack_body
from metering.events.wire.decode import decode_json
from metering.streams.ingest.fold import fold_wire
from metering.streams.ingest.submission import Submission
from metering.streams.ingest.writer import IngestWriter
from tests.scenarios.oracle import Event, bill, instant
from tests.scenarios.streams import CUSTOMERS, Maker, Plan
from tests.simulation.edges import Edges

MOST_TOKENS = 400_000
CUSTOMERS_OF_A_RUN = 3
SHARE_FOR_A_PERSON = 0.1
MEDIA_TYPE = "application/cloudevents-batch+json"


class Streams(Maker):
    """The streams of the scenarios, with counts that Stripe can bill."""

    def _count(self) -> int:
        return min(super()._count(), MOST_TOKENS)


class Gateways:
    """What gateways have to send, and when each batch arrives."""

    def __init__(self, source: random.Random, *, begin: datetime, span: timedelta, count: int) -> None:
        self._random = source
        plans = Streams(source, prefix="", begin=begin, span=span).plans(
            count * len(CUSTOMERS) // CUSTOMERS_OF_A_RUN
        )
        chosen = source.sample(CUSTOMERS, CUSTOMERS_OF_A_RUN)
        plans = [plan for plan in plans if plan.customer_id in chosen and self._is_wanted(plan)]
        self.events: list[Event] = [each for plan in plans for each in (*plan.events, *plan.late)]
        self._late = {id(each) for plan in plans for each in plan.late}
        self._ahead = sorted(self.events, key=lambda each: instant(each["time"]))
        self._under_way: list[tuple[datetime, list[Event]]] = []
        self.reached: Counter[str] = Counter()

    def _is_wanted(self, plan: Plan) -> bool:
        """Few of the streams that need a person: each keeps its month from closing."""
        (billed,) = bill([*plan.events, *plan.late]).values()
        return billed.state == "finalized" or self._random.random() < SHARE_FOR_A_PERSON

    @property
    def customers(self) -> list[str]:
        return sorted({each["subject"] for each in self.events})

    def happen(self, until: datetime) -> None:
        """Send what happened until then, in batches that arrive at times of their own."""
        count = next(
            (place for place, each in enumerate(self._ahead) if instant(each["time"]) > until), len(self._ahead)
        )
        happened, self._ahead = self._ahead[:count], self._ahead[count:]
        late = [each for each in happened if id(each) in self._late]
        rest = [each for each in happened if id(each) not in self._late]
        self._send(rest, until)
        for each in late:
            self._send([each], until + self._random.random() * timedelta(days=30))

    def arriving(self, now: datetime) -> list[list[Event]]:
        """The batches that arrive by now, in any order. What is not taken has to be sent again."""
        due = [batch for at, batch in self._under_way if at <= now]
        self._under_way = [each for each in self._under_way if each[0] > now]
        self._random.shuffle(due)
        return due

    def send_again(self, batch: list[Event], at: datetime) -> None:
        """The answer to a batch was an error, or none."""
        self.reached["sent again"] += 1
        self._under_way.append((at, batch))

    def send_everything_again(self, at: datetime) -> None:
        """As after a restore: every event, in another order."""
        everything = list(self.events)
        self._random.shuffle(everything)
        self._under_way.append((at, everything))

    def _send(self, events: Sequence[Event], now: datetime) -> None:
        chosen = list(events)
        if self._random.random() < 0.5:
            self._random.shuffle(chosen)
        while chosen:
            size = self._random.randint(1, 30)
            batch, chosen = chosen[:size], chosen[size:]
            for _ in range(self._random.choice((1, 1, 1, 1, 2, 3))):
                delay = self._random.choice((0, 0, 0, 0, 0.1, 1, 12)) * self._random.random()
                self.reached["late by days"] += delay > 1
                self._under_way.append((now + timedelta(days=delay), batch))


def take(batch: Sequence[Event], *, edges: Edges, url: str, abandon_after: timedelta, now: datetime) -> None:
    """What the API does with a batch, in a process of its own.

    Raises:
        NotCommittedError: it is not known whether the events are stored.
    """
    asyncio.run(_take(json.dumps(list(batch)).encode(), edges, url, abandon_after, now))


async def _take(body: bytes, edges: Edges, url: str, abandon_after: timedelta, now: datetime) -> None:
    decoded = decode_json(body)
    assert not decoded.rejections
    streams = fold_wire(decoded.events, received_at=now)
    writer = IngestWriter(
        connect=lambda: edges.connect(url),
        max_queued_events=100_000,
        commit_timeout=timedelta(minutes=5),
        abandon_after=abandon_after,
        on_ended=lambda: None,
    )
    writer.start()
    entry = JournalEntry(
        ingest_key_id="key_simulation",
        received_at=now,
        media_type=MEDIA_TYPE,
        event_count=len(decoded.events),
        rejected=None,
        body=pack_body(body),
        stream_hashes=stream_hashes(streams),
    )
    try:
        await writer.submit(Submission(entry, streams))
    finally:
        await writer.stop()
