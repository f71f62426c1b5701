"""Random streams with every trait that the contract names, as sets of events; each says what it is about."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from tests.scenarios.prices import MODELS

HUGE = 2**53 - 1
OUTCOMES = ("completed", "completed", "cancelled", "failed", "timed_out")
SOURCES = ("provider", "provider", "gateway_count", "estimate", None)
STRANGE_IDS = (
    *("a/b", "..", ".", "50%", "%2F", 'say "hi"', "it's", "back\\slash", "?q=1&r=2", "#top", "späße", "日本語"),
    *(
        "\U0001f980" * 3,
        "e\u0301",
        "\u00e9",
        " lead",
        "tail ",
        "a+b",
        "<script>",
        "{x}",
        "a;b,c",
        "\u202eabc",
        "tab\tbed",
    ),
)
CUSTOMERS = ("acme", "a/c", "ünï", "50%off", "q'uo\"te", "\U0001f980", "plain", "two words")
UNKNOWN_MODELS = (("anthropic", "claude-nobody-knows"), ("nowhere", "gpt-5.5"), ("openai", "private-model"))


@dataclass(slots=True)
class Plan:
    """One stream's events. `late` are sent once the first ones are billed; `traits` say what was put in."""

    customer_id: str
    stream_id: str
    events: list[dict] = field(default_factory=list)
    late: list[dict] = field(default_factory=list)
    traits: set[str] = field(default_factory=set)

    @property
    def key(self) -> tuple[str, str]:
        return self.customer_id, self.stream_id


def event(kind: str, customer_id: str, stream_id: str, at: datetime, *, suffix: str | None = None, **data) -> dict:
    """One event as a gateway writes it; arguments that are None are left out."""
    known = {name: value for name, value in data.items() if value is not None}
    ending = suffix or {"stream-start": "start", "stream-end": "end"}.get(kind) or f"t:{data['seq']}"
    return {
        "specversion": "1.0",
        "type": kind,
        "source": "/gateways/test-1",
        "id": f"{stream_id}:{ending}",
        "subject": customer_id,
        "time": at.isoformat().replace("+00:00", "Z"),
        "data": {"stream_id": stream_id, **known},
    }


class Maker:
    """Makes random streams that start in [begin, begin + span)."""

    def __init__(self, rng: random.Random, *, prefix: str, begin: datetime, span: timedelta) -> None:
        self._rng = rng
        self._prefix = prefix
        self._begin = begin
        self._span = span

    def plans(self, count: int) -> list[Plan]:
        """So many streams, ids unique per customer."""
        return [self._plan(number) for number in range(count)]

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _moment(self, after: datetime, seconds: float = 60) -> datetime:
        """A later time, sometimes written with another offset or with microseconds."""
        moment = after + timedelta(milliseconds=self._rng.randint(1, int(seconds * 1000)))
        if self._chance(0.2):
            moment += timedelta(microseconds=self._rng.randint(1, 999))
        if self._chance(0.2):
            moment = moment.astimezone(timezone(timedelta(minutes=self._rng.choice((-570, -300, 60, 345)))))
        return moment

    def _count(self) -> int:
        rng = self._rng
        shape = rng.random()
        if shape < 0.03:
            return HUGE - rng.randint(0, 1)
        if shape < 0.10:
            return 0
        if shape < 0.20:
            return rng.choice((128_000, 200_000, 272_000)) + rng.randint(-1, 1)
        return rng.randint(1, 400_000 if shape < 0.35 else 5_000)

    def _plan(self, number: int) -> Plan:
        rng = self._rng
        name = f"{number}-{rng.choice(STRANGE_IDS)}" if self._chance(0.3) else f"01J9{number:05d}"
        plan = Plan(self._prefix + rng.choice(CUSTOMERS), name)
        if name[0] != "0":
            plan.traits.add("strange id")
        started = self._begin + timedelta(milliseconds=rng.randrange(int(self._span / timedelta(milliseconds=1))))
        self._add_start(plan, started)
        self._add_tokens(plan, started)
        self._add_ends(plan, started)
        contradictions = [each for each in plan.events if each["id"].endswith((":start3", ":end4"))]
        if contradictions and self._chance(0.5):
            plan.late = contradictions
            plan.events = [each for each in plan.events if each not in contradictions]
            plan.traits.add("late contradiction")
        elif self._chance(0.12) and len(plan.events) > 1:
            rng.shuffle(plan.events)
            cut = rng.randint(1, len(plan.events) - 1)
            plan.events, plan.late = plan.events[:cut], plan.events[cut:]
            plan.traits.add("late events")
        return plan

    def _add_start(self, plan: Plan, started: datetime) -> None:
        rng = self._rng
        if self._chance(0.06):
            plan.traits.add("no start")
            return
        model = rng.choice(MODELS)
        provider, name = rng.choice(UNKNOWN_MODELS) if self._chance(0.06) else (model.provider, model.name)
        data = {
            "provider": provider,
            "model": name,
            "input_tokens": self._count() if self._chance(0.7) else None,
            "api_key_id": rng.choice((None, "key-1", "key-2")),
            "streaming": rng.choice((None, True, False)),
            "max_output_tokens": rng.choice((None, 4096)),
            "tags": rng.choice((None, {"team": "späße", "n": "1"})),
            "x_future_field": rng.choice((None, [1, {"deep": True}])),
        }
        plan.events.append(event("stream-start", plan.customer_id, plan.stream_id, started, **data))
        if self._chance(0.05):
            plan.traits.add("start repeated at another time")
            again = self._moment(started)
            plan.events.append(
                event("stream-start", plan.customer_id, plan.stream_id, again, suffix="start2", **data)
            )
        if self._chance(0.03):
            plan.traits.add("starts conflict")
            other = data | {"input_tokens": rng.randint(10**6, 10**7)}
            again = self._moment(started)
            plan.events.append(
                event("stream-start", plan.customer_id, plan.stream_id, again, suffix="start3", **other)
            )

    def _add_tokens(self, plan: Plan, started: datetime) -> None:
        output, reasoning, at = 0, 0, started
        steps = self._rng.choice((0, 0, 1, 2, 3, 6))
        reasons = self._chance(0.3)
        for seq in range(1, steps + 1):
            output = min(HUGE, output + self._count() // 4)
            reasoning = min(HUGE, reasoning + self._rng.randint(0, 300))
            at = self._moment(at, 5)
            counts = {"output_tokens": output, "reasoning_output_tokens": reasoning if reasons else None}
            plan.events.append(event("token-delivered", plan.customer_id, plan.stream_id, at, seq=seq, **counts))
        if steps and self._chance(0.1):
            plan.traits.add("token events lost")
            mine = [each for each in plan.events if each["type"] == "token-delivered"]
            plan.events.remove(self._rng.choice(mine))

    def _add_ends(self, plan: Plan, started: datetime) -> None:
        rng = self._rng
        if self._chance(0.12) and plan.events:
            plan.traits.add("no end")
            return
        ended = self._moment(started, 4000)
        first = self._end(plan, ended, "end")
        if self._chance(0.08):
            plan.traits.add("end of another rank")
            source = rng.choice([each for each in SOURCES if each != first["data"].get("usage_source")])
            self._end(plan, self._moment(started, 4000), "end2", usage_source=source)
        if self._chance(0.05):
            plan.traits.add("end repeated at another time")
            data = {name: value for name, value in first["data"].items() if name != "stream_id"}
            again = self._moment(ended)
            plan.events.append(event("stream-end", plan.customer_id, plan.stream_id, again, suffix="end3", **data))
        if self._chance(0.04):
            plan.traits.add("ends conflict")
            other = {"usage_source": first["data"].get("usage_source"), "error_type": "another"}
            self._end(plan, self._moment(ended), "end4", **other)

    def _end(self, plan: Plan, at: datetime, suffix: str, **overrides: object) -> dict:
        rng = self._rng
        source = rng.choice(SOURCES)
        usage = self._usage(plan)
        response_model = None
        if self._chance(0.12):
            plan.traits.add("response model")
            # Usually of another provider than the start's: then nothing has a rate for it.
            response_model = rng.choice(self._siblings(plan)) if self._chance(0.8) else "gpt-5.5"
        data = {
            "outcome": rng.choice(OUTCOMES),
            "usage": usage,
            "usage_source": source,
            "finish_reasons": rng.choice((None, ["stop"], ["length", "stop"])),
            "response_model": response_model,
            "response_id": rng.choice((None, "resp_1")),
        } | overrides
        made = event("stream-end", plan.customer_id, plan.stream_id, at, suffix=suffix, **data)
        plan.events.append(made)
        return made

    def _siblings(self, plan: Plan) -> Sequence[str]:
        starts = [each for each in plan.events if each["type"] == "stream-start"]
        provider = starts[0]["data"]["provider"] if starts else "openai"
        return [model.name for model in MODELS if model.provider == provider] or ["gpt-5.5"]

    def _usage(self, plan: Plan) -> dict[str, int] | None:
        rng = self._rng
        shape = rng.random()
        if shape < 0.2:
            plan.traits.add("no usage")
            return None
        names = ["input_tokens", "output_tokens"]
        if shape < 0.35:
            plan.traits.add("partial usage")
            names = [rng.choice(names)] if shape < 0.32 else []
        usage = {name: self._count() for name in names}
        for name in ("cache_read_input_tokens", "cache_write_input_tokens", "input_audio_tokens"):
            if self._chance(0.25):
                usage[name] = self._nested(plan, usage.get("input_tokens", 500))
        for name in ("reasoning_output_tokens", "output_audio_tokens"):
            if self._chance(0.25):
                usage[name] = self._nested(plan, usage.get("output_tokens", 500))
        return usage

    def _nested(self, plan: Plan, parent: int) -> int:
        if self._chance(0.12):
            plan.traits.add("nested above its parent")
            return min(HUGE, parent + self._rng.randint(1, 1000))
        return self._rng.randint(0, max(1, parent // 2))
