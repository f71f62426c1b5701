"""The streams that gateways report in a run: a pure function of the seed, the gateway and the stream's number.

Event times are those of the gateway's clock when it posts, so they are not part of a story.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageEvent, UsageSource
from metering.events.usage import Usage

PROVIDER = "chaos"
MODELS = ("small", "large", "tiered")
# How far a gateway's clock is from the right time, in turn.
SKEWS = (timedelta(0), timedelta(minutes=-40), timedelta(hours=3), timedelta(days=-2))
WRONG_CLOCK = timedelta(days=400)


class Life(StrEnum):
    """How a stream goes, and what is reported of it."""

    COMPLETED = "completed"
    CANCELLED = "cancelled, without usage"
    FAILED = "failed before the first token"
    ABANDONED = "without an end"
    CORRECTED = "the end of the provider comes after that of the gateway"
    RESENT = "every event sent again"
    WRONG_CLOCK = "first dated 400 days ahead, then right"


_WEIGHTS = (60, 12, 5, 4, 8, 6, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One stream. `delivered` has the cumulative counts, `output` is what the provider counts, in tokens."""

    customer_id: str
    stream_id: str
    model: str
    life: Life
    input: int
    cached: int
    delivered: tuple[int, ...]
    output: int
    api_key_id: str | None = None
    team: str | None = None

    @property
    def tags(self) -> dict[str, str]:
        """The tags of its stream-start."""
        return {"team": self.team} if self.team else {}


def emitters_customer(number: int) -> str:
    """The id of a customer of the gateways that report through emitters."""
    return f"chaos-{number:05}"


def tell(*, seed: int, gateway: int, number: int, customers: int) -> Story:
    """The story of a gateway's stream."""
    random = Random(f"{seed}/{gateway}/{number}")
    size = random.choice((40, 900, 7_000, 120_000))
    given = random.randrange(size)
    counts = sorted(random.randrange(1, 4_000) for _ in range(random.randrange(4, 30)))
    (life,) = random.choices(list(Life), _WEIGHTS)
    return Story(
        # A tenth of the customers makes half of the traffic.
        customer_id=emitters_customer(int(customers * random.random() ** 3)),
        stream_id=f"g{gateway}-{number}-{random.randrange(1 << 32):08x}",
        model=random.choice(MODELS),
        life=life,
        input=given,
        cached=random.randrange(given + 1) if random.random() < 0.5 else 0,
        delivered=() if life is Life.FAILED else tuple(dict.fromkeys(counts)),
        output=0 if life is Life.FAILED else counts[-1] + random.randrange(50),
    )


@dataclass(frozen=True, slots=True)
class _Writer:
    """Makes the events of a story; each takes the clock's time at which it is made."""

    story: Story

    def start(self, at: datetime) -> UsageEvent:
        story = self.story
        return StreamStart(
            customer_id=story.customer_id,
            stream_id=story.stream_id,
            time=at,
            provider=PROVIDER,
            model=story.model,
            input_tokens=story.input,
            api_key_id=story.api_key_id,
            tags=story.tags,
        )

    def count(self, at: datetime, seq: int) -> UsageEvent:
        story = self.story
        return TokenDelivered(
            customer_id=story.customer_id,
            stream_id=story.stream_id,
            time=at,
            seq=seq + 1,
            output_tokens=story.delivered[seq],
        )

    def end(self, at: datetime, outcome: Outcome, source: UsageSource | None) -> UsageEvent:
        story = self.story
        # A gateway that counts sees what was delivered; the provider counts all.
        output = story.output if source is UsageSource.PROVIDER else story.delivered[-1] if source else 0
        usage = Usage(input_tokens=story.input, output_tokens=output, cache_read_input_tokens=story.cached or None)
        return StreamEnd(
            customer_id=story.customer_id,
            stream_id=story.stream_id,
            time=at,
            outcome=outcome,
            usage=usage if source else None,
            usage_source=source,
        )


class Clock:
    """A gateway's clock; `read` is called for each event."""

    def __init__(self, *, now: datetime) -> None:
        self._now = now

    def set(self, now: datetime) -> None:
        """Set the time of the next events."""
        self._now = now

    def read(self) -> datetime:
        """The time."""
        return self._now


def play(story: Story, clock: Clock) -> Iterator[UsageEvent]:
    """The events of a story, one by one, each with the time at which it is taken."""
    writer, life = _Writer(story), story.life
    ahead = WRONG_CLOCK if life is Life.WRONG_CLOCK else timedelta(0)
    yield writer.start(clock.read() + ahead)
    for seq in range(len(story.delivered)):
        yield writer.count(clock.read() + ahead, seq)
    if life is Life.ABANDONED:
        return
    outcome, source = _end_of(life)
    yield writer.end(clock.read() + ahead, outcome, source)
    if life in (Life.RESENT, Life.WRONG_CLOCK):
        yield writer.start(clock.read())
        for seq in range(len(story.delivered)):
            yield writer.count(clock.read(), seq)
        yield writer.end(clock.read(), outcome, source)
    if life is Life.CORRECTED:
        yield writer.end(clock.read(), outcome, UsageSource.PROVIDER)


def cut(story: Story, clock: Clock) -> UsageEvent:
    """The end of a stream that its gateway cuts because its budget is exhausted."""
    return StreamEnd(
        customer_id=story.customer_id,
        stream_id=story.stream_id,
        time=clock.read(),
        outcome=Outcome.CANCELLED,
        error_type="budget",
    )


def _end_of(life: Life) -> tuple[Outcome, UsageSource | None]:
    if life is Life.CANCELLED:
        return Outcome.CANCELLED, None
    if life is Life.FAILED:
        return Outcome.FAILED, None
    return Outcome.COMPLETED, UsageSource.GATEWAY_COUNT if life is Life.CORRECTED else UsageSource.PROVIDER
