"""Random streams as gateways might report them: any outcome, source, gap, contradiction, size and spelling."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.scenarios.prices import MODELS, Model

Event = dict[str, Any]

BEGIN = datetime(2026, 10, 30, 22, tzinfo=UTC)
DAYS = 6
OUTCOMES = ("completed", "completed", "completed", "cancelled", "failed", "timed_out")
SOURCES = ("provider", "provider", "gateway_count", "estimate", None)
ODD_NAMES = ("a/b", "it's", "50%", "日本", "x y", 'say "hi"', "a?b#c", "..", "%2F")


@dataclass(slots=True)
class World:
    """Events made so far, and how often each kind of thing came up."""

    rng: random.Random
    prefix: str
    models: Sequence[Model] = MODELS
    days: int = DAYS
    events: list[Event] = field(default_factory=list)
    late: list[Event] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)

    def add_streams(self, count: int) -> None:
        """Make up some streams."""
        for number in range(count):
            _Stream(self, number).report()


class _Stream:
    """One stream on its way into the world."""

    def __init__(self, world: World, number: int) -> None:
        rng = world.rng
        self.world, self.rng = world, rng
        self.customer = f"{world.prefix}-{rng.randrange(5)}"
        odd = rng.choice(ODD_NAMES) if rng.random() < 0.1 else ""
        self.stream_id = f"s{number}{odd}"
        self.model: Model = rng.choice(world.models)
        self.begins = BEGIN + timedelta(
            seconds=rng.randrange(world.days * 86_400), milliseconds=rng.randrange(1000)
        )
        self.output = rng.choice((0, 1, 7, 140, 4096, 2**53 - 1))
        self.input = rng.choice((0, 1, 812, 128_000, 128_001, 200_001, 272_000, 272_001, 2**53 - 1))

    def report(self) -> None:
        """Tell the world what a gateway would post, and sometimes what it should not."""
        rng = self.rng
        if rng.random() < 0.03:
            self._note("no start")
        else:
            self._start()
        if rng.random() < 0.6:
            self._tokens()
        if rng.random() < 0.06:
            self._note("no end")
            return
        end = self._end()
        if rng.random() < 0.06:
            # Only an end that is believed more than the first may come late without contradicting it.
            self._note("late end")
            better = {**end, "data": {**end["data"], "usage_source": "provider", "usage": self._usage()}}
            if end["data"].get("usage_source") != "provider":
                self.world.late.append(better)
        if rng.random() < 0.03:
            self._note("conflicting ends")
            self._add("stream-end", "end", {**end["data"], "response_id": "another"}, after=3)

    def _note(self, what: str) -> None:
        self.world.reached[what] += 1

    def _add(self, kind: str, suffix: str, data: dict[str, Any], *, after: float) -> Event:
        event = {
            "specversion": "1.0",
            "type": kind,
            "source": f"/gateways/{self.rng.randrange(3)}",
            "id": f"{self.stream_id}:{suffix}",
            "subject": self.customer,
            "time": (self.begins + timedelta(seconds=after)).isoformat(),
            "data": {"stream_id": self.stream_id, **data},
        }
        self.world.events.append(event)
        return event

    def _start(self) -> None:
        rng = self.rng
        model = self.model.name
        if rng.random() < 0.04:
            self._note("unknown model")
            model = "nobody-knows-1"
        data: dict[str, Any] = {"provider": self.model.provider, "model": model}
        if rng.random() < 0.8:
            data["input_tokens"] = self.input
        if rng.random() < 0.5:
            data["api_key_id"] = f"key-{rng.randrange(3)}"
        if rng.random() < 0.2:
            data["tags"] = {"team": "ä"}
        if rng.random() < 0.8:
            data["request_hash"] = "the same question"
        self._add("stream-start", "start", data, after=0)
        if rng.random() < 0.05:
            self._note("start sent again with another time")
            self._add("stream-start", "start", data, after=1)
        if rng.random() < 0.02:
            self._note("conflicting starts")
            self._add("stream-start", "start", {**data, "operation": "embed"}, after=-1)

    def _tokens(self) -> None:
        self._note("tokens while streaming")
        for seq in range(1, self.rng.randrange(2, 5)):
            data = {"seq": seq, "output_tokens": self.output * seq // 4}
            if self.rng.random() < 0.2:
                data["reasoning_output_tokens"] = self.output * seq // 8
            self._add("token-delivered", f"t:{seq}", data, after=seq / 2)

    def _end(self) -> Event:
        rng = self.rng
        source = rng.choice(SOURCES)
        data: dict[str, Any] = {"outcome": rng.choice(OUTCOMES)}
        if source:
            data["usage_source"] = source
        if rng.random() < 0.8:
            data["usage"] = self._usage()
            self._note(f"usage by {source}")
        if rng.random() < 0.1:
            self._note("another model answered")
            data["response_model"] = rng.choice(
                [model for model in self.world.models if self._same_provider(model)]
            ).name
        return self._add("stream-end", "end", data, after=2.5)

    def _same_provider(self, model: Model) -> bool:
        return model.provider == self.model.provider

    def _usage(self) -> dict[str, int]:
        rng = self.rng
        usage: dict[str, int] = {}
        if rng.random() < 0.9:
            usage["input_tokens"] = self.input
            if rng.random() < 0.4:
                self._note("cached input")
                usage["cache_read_input_tokens"] = rng.randrange(self.input + 1) // 2
                usage["cache_write_input_tokens"] = rng.randrange(self.input + 1) // 4
                usage["input_audio_tokens"] = rng.randrange(self.input + 1) // 4
        if rng.random() < 0.9:
            usage["output_tokens"] = self.output
            if rng.random() < 0.3:
                usage["reasoning_output_tokens"] = rng.randrange(self.output + 1) // 2
                usage["output_audio_tokens"] = rng.randrange(self.output + 1) // 2
        if rng.random() < 0.02 and usage.get("input_tokens", 2**53) < 1_000:
            self._note("more cached than input")
            usage["cache_read_input_tokens"] = usage["input_tokens"] + 5
        return usage
