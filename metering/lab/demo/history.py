"""A history to look at: two months of streams of a dozen customers, random and the same for each seed."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx2

Event = dict[str, Any]

_DAYS = 58
_PER_REQUEST = 500

MODELS: Mapping[str, tuple[str, float]] = {
    "claude-opus-4.7": ("anthropic", 0.24),
    "claude-sonnet-4-6": ("anthropic", 0.22),
    "gpt-5.5": ("openai", 0.2),
    "gpt-5.5-pro": ("openai", 0.04),
    "gemini-3.1-pro-preview": ("google", 0.12),
    "gemini-2.5-flash": ("google", 0.1),
    "deepseek-v4-pro": ("deepseek", 0.05),
    "claude-haiku-4-5": ("anthropic", 0.03),
}
# (outcome, usage_source, weight). Most streams complete; the gateway counts the tokens of a cancelled one.
_ENDS: Sequence[tuple[str, str | None, float]] = (
    ("completed", "provider", 0.86),
    ("completed", "gateway_count", 0.03),
    ("cancelled", "gateway_count", 0.06),
    ("cancelled", "estimate", 0.01),
    ("failed", "estimate", 0.02),
    ("timed_out", "gateway_count", 0.01),
    ("completed", None, 0.01),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A customer. `trend` is the factor by which its streams per day grow over the history."""

    customer_id: str
    name: str
    time_zone: str
    streams_per_day: int
    trend: float


PROFILES = (
    Profile("umbrella", "Umbrella Robotics", "America/Los_Angeles", 16, 1.8),
    Profile("hooli", "Hooli", "America/New_York", 14, 1.0),
    Profile("wonka", "Wonka Patisserie", "Europe/Berlin", 9, 0.5),
    Profile("tyrell", "Tyrell Optics", "Asia/Tokyo", 7, 1.3),
    Profile("stark", "Stark & Söhne", "Europe/Vienna", 6, 1.1),
    Profile("cyberdyne", "Cyberdyne", "UTC", 5, 0.9),
    Profile("soylent", "Soylent Kitchens", "Asia/Kolkata", 4, 2.5),
    Profile("vandelay", "Vandelay Imports", "UTC", 3, 1.0),
    Profile("dunder", "Dunder Paper", "America/New_York", 2, 0.7),
    Profile("nakatomi", "ナカトミ貿易", "Asia/Tokyo", 2, 1.0),
    Profile("oscorp", "Oscorp", "UTC", 1, 1.0),
)


# Any such history fires some of these alerts, and not the others.
ALERTS: Sequence[Mapping[str, Any]] = (
    {"name": "Budget of Hooli", "kind": "spend", "scope": "customer", "customer_id": "hooli",
     "budget_usd_cents": "400", "thresholds": ["50", "80", "100"]},
    {"name": "Far above the week before", "kind": "daily_change", "scope": "each_customer",
     "floor_usd_cents": "20", "thresholds": ["100"]},
    {"name": "Estimated tokens", "kind": "estimated_share", "scope": "deployment", "thresholds": ["1", "25"],
     "floor_usd_cents": "0"},
    {"name": "Stripe differs", "kind": "drift", "scope": "deployment", "thresholds": ["1"]},
    {"name": "Backlog waits", "kind": "backlog_age", "scope": "each_customer", "thresholds": ["4", "24"]},
)  # fmt: skip


def post_history(*, api: httpx2.Client, now: datetime) -> int:
    """Create the customers and the alerts, and post the events; returns the number of streams."""
    for profile in PROFILES:
        details = {"name": profile.name, "time_zone": profile.time_zone}
        api.put(f"/v1/customers/{profile.customer_id}", json=details).raise_for_status()
    for alert in ALERTS:
        api.post("/v1/alerts", json=alert).raise_for_status()
    count = 0
    for events in history(now=now, seed=7):
        api.post("/v1/events", json=events).raise_for_status()
        count += sum(event["type"] == "stream-start" for event in events)
    return count


def history(*, now: datetime, seed: int) -> Iterator[list[Event]]:
    """The events of all customers up to `now`, one list of at most about 500 for each request."""
    source = random.Random(seed)
    events: list[Event] = []
    for profile in PROFILES:
        for day in range(_DAYS, -1, -1):
            for stream in _day_of(source, profile, day, now):
                events += stream
                if len(events) >= _PER_REQUEST:
                    yield events
                    events = []
    if events:
        yield events


def _day_of(source: random.Random, profile: Profile, day: int, now: datetime) -> Iterator[list[Event]]:
    """The streams of one day, fewer at the weekend, scaled by the customer's trend."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=day)
    grown = 1 + (profile.trend - 1) * (_DAYS - day) / _DAYS
    busy = 0.35 if midnight.weekday() >= 5 else 1.0
    for number in range(round(profile.streams_per_day * grown * busy * source.uniform(0.6, 1.3))):
        started = midnight + timedelta(seconds=source.uniform(0, 86_000))
        if started < now - timedelta(minutes=2):
            stream_id = f"{profile.customer_id}-{midnight:%m%d}-{number:03d}"
            yield from _stream(source, profile, stream_id, started)


def _stream(source: random.Random, profile: Profile, stream_id: str, started: datetime) -> Iterator[list[Event]]:
    """A stream, and for some interrupted ones its retry."""
    model = source.choices(list(MODELS), [weight for _, weight in MODELS.values()])[0]
    outcome, usage_source, _ = source.choices(_ENDS, [weight for *_, weight in _ENDS])[0]
    yield _events(source, profile, stream_id, started, model, outcome, usage_source)
    if outcome in ("failed", "cancelled") and source.random() < 0.4:
        again = started + timedelta(seconds=source.uniform(30, 90))
        yield _events(source, profile, f"{stream_id}-again", again, model, "completed", "provider", of=stream_id)


def _events(
    source: random.Random,
    profile: Profile,
    stream_id: str,
    started: datetime,
    model: str,
    outcome: str,
    usage_source: str | None,
    of: str | None = None,
) -> list[Event]:
    prompt = int(source.lognormvariate(8.2, 1.1))
    output = int(source.lognormvariate(6.6, 0.9)) + 1
    output = max(1, int(output * (source.random() if outcome != "completed" else 1)))
    usage = {"input_tokens": prompt, "output_tokens": output}
    if source.random() < 0.4:
        usage["cache_read_input_tokens"] = int(prompt * source.uniform(0.3, 0.9))
    start = {
        "provider": MODELS[model][0],
        "model": model,
        "input_tokens": prompt,
        "api_key_id": f"{profile.customer_id}-{source.choice(('web', 'batch'))}",
        "request_hash": f"hash-{of or stream_id}",
    }
    end: dict[str, Any] = {"outcome": outcome, "usage": usage}
    if usage_source is not None:
        end["usage_source"] = usage_source
    ended = started + timedelta(seconds=source.uniform(1, 25))
    return [
        cloud_event("stream-start", profile.customer_id, stream_id, started, start),
        cloud_event("token-delivered", profile.customer_id, stream_id, ended, {"seq": 1, "output_tokens": output}),
        cloud_event("stream-end", profile.customer_id, stream_id, ended, end),
    ]


def cloud_event(kind: str, customer_id: str, stream_id: str, at: datetime, data: dict[str, Any]) -> Event:
    """An event as the API takes it."""
    return {
        "specversion": "1.0",
        "type": kind,
        "source": "/gateways/demo",
        "id": f"{stream_id}:{kind}",
        "subject": customer_id,
        "time": at.isoformat(),
        "data": {"stream_id": stream_id, **data},
    }
