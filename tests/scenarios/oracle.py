"""Bills a set of events straight from the contract's text; shares no code and no idea with the product.

Order-free by construction: events are grouped, sorted and reduced by maxima, and nothing is kept between calls.
Times are instants; money is a fraction of a cent until it is printed.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from tests.scenarios.terms import PUBLISHED, Terms

Event = dict
Key = tuple[str, str]

RANKS = ("provider", "gateway_count", "estimate", None)
COUNTERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
# The whole, and what is to fit into it together; if it does not, what of it stands beside the whole.
CACHED = ("cache_read_input_tokens", "cache_write_input_tokens")
FITS = (
    ("input_tokens", ("input_audio_tokens",), ("input_audio_tokens",)),
    ("input_tokens", CACHED, CACHED),
    ("output_tokens", ("output_audio_tokens",), ("output_audio_tokens",)),
    ("output_tokens", ("output_audio_tokens", "reasoning_output_tokens"), ("reasoning_output_tokens",)),
)
START_FIELDS = {
    "provider": None,
    "model": None,
    "streaming": True,
    "operation": "chat",
    "input_tokens": None,
    "max_output_tokens": None,
    "api_key_id": None,
    "request_hash": None,
    "service_tier": None,
    "tags": None,
}
END_FIELDS = (
    "outcome",
    "usage_source",
    "finish_reasons",
    "response_model",
    "response_id",
    "service_tier",
    "error_type",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a charge; cents are exact."""

    kind: str
    quantity: int
    usd_per_million: Fraction

    @property
    def cents(self) -> Fraction:
        return self.quantity * self.usd_per_million * 100 / 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What the contract says about one stream once nothing more is to be waited for."""

    customer_id: str
    stream_id: str
    state: str
    outcome: str | None
    provider: str | None
    model: str | None
    api_key_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    usage: dict[str, int] = field(hash=False)
    usage_source: str
    lines: tuple[Line, ...]
    input_unknown: bool
    billed_nothing: bool
    asked: tuple[str, ...] | None

    @property
    def cents(self) -> Fraction | None:
        """The exact cost, or None for a stream that needs a person or is still open."""
        return sum((line.cents for line in self.lines), Fraction(0)) if self.state == "finalized" else None

    @property
    def cost(self) -> str | None:
        return None if self.cents is None else decimal_string(self.cents)


def decimal_string(value: Fraction) -> str:
    """The shortest exact decimal, without an exponent; the fraction must have one."""
    digits, rest = 0, value
    while rest.denominator != 1:
        rest, digits = rest * 10, digits + 1
        assert digits < 60, f"{value} has no finite decimal"
    text = str(abs(rest.numerator)).rjust(digits + 1, "0")
    whole, part = (text[:-digits], text[-digits:]) if digits else (text, "")
    return ("-" if value < 0 else "") + whole + (f".{part}" if part else "")


def instant(text: str) -> datetime:
    """An RFC 3339 time as an instant in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def bill(events: Iterable[Event], *, settled: bool = True, terms: Terms = PUBLISHED) -> dict[Key, Bill]:
    """Every stream's bill. Unless `settled`, a stream without an end is still open rather than abandoned."""
    streams: dict[Key, list[Event]] = defaultdict(list)
    for event in events:
        streams[event["subject"], event["data"]["stream_id"]].append(event)
    return {key: _bill_stream(key, group, settled, terms) for key, group in streams.items()}


def _bill_stream(key: Key, events: Sequence[Event], settled: bool, terms: Terms) -> Bill:
    start, starts_conflict = _winner([e for e in events if e["type"] == "stream-start"], _start_content)
    end, ends_conflict = _best_end([e for e in events if e["type"] == "stream-end"])
    delivered = _delivered([e for e in events if e["type"] == "token-delivered"])
    usage = _billable_usage(start, delivered, end)
    ended = end["data"] if end else {}
    source = ended.get("usage_source") or "estimate"
    told, completed = ended.get("usage") or {}, ended.get("outcome") == "completed"
    outputs = ("output_tokens", "reasoning_output_tokens", "output_audio_tokens")
    if delivered.get("output_tokens") and not any(usage.get(name) for name in outputs):
        usage = {**usage, "output_tokens": delivered["output_tokens"]}
        source = "gateway_count" if source == "provider" else source
    empty = not any(usage.get(name) for name in outputs)
    nothing = empty and not completed and not (source == "provider" and told)
    unmeasured = empty and completed and not told and "input_tokens" not in usage
    usage = _read(usage)
    shown = {"input_tokens": 0, "output_tokens": 0} | ({} if nothing else usage)
    prices, waived = _prices(start, end, terms)
    lines = None if prices is None else _lines(usage, prices)
    state = _state(
        start=start,
        end=end or settled,
        conflict=starts_conflict or ends_conflict,
        unmeasured=unmeasured,
        priced=lines is not None or nothing or waived,
    )
    last = max((instant(e["time"]) for e in events), default=None)
    return Bill(
        customer_id=key[0],
        stream_id=key[1],
        state=state,
        outcome=end["data"]["outcome"] if end else ("abandoned" if settled else None),
        provider=start["data"]["provider"] if start else None,
        model=start["data"]["model"] if start else None,
        api_key_id=start["data"].get("api_key_id") if start else None,
        started_at=instant(start["time"]) if start else None,
        ended_at=instant(end["time"]) if end else (last if settled else None),
        usage=shown,
        usage_source=source,
        lines=lines if state == "finalized" and lines and not (nothing or waived) else (),
        input_unknown="input_tokens" not in usage and not nothing and not unmeasured,
        billed_nothing=nothing,
        asked=_asked(start),
    )


def _state(*, start: Event | None, end: object, conflict: bool, unmeasured: bool, priced: bool) -> str:
    if not end:
        return "open"
    if conflict:
        return "conflicting"
    if start is None:
        return "orphaned"
    if unmeasured:
        return "unmeasured"
    return "finalized" if priced else "unpriced"


def _start_content(event: Event) -> str:
    data = event["data"]
    return json.dumps({name: data.get(name, default) for name, default in START_FIELDS.items()}, sort_keys=True)


def _end_content(event: Event) -> str:
    data = event["data"]
    usage = {name: count for name, count in (data.get("usage") or {}).items() if name in COUNTERS}
    return json.dumps({"usage": usage} | {name: data.get(name) for name in END_FIELDS}, sort_keys=True)


def _winner(events: Sequence[Event], content) -> tuple[Event | None, bool]:
    """The event with the least time, and whether another says something else."""
    ordered = sorted(events, key=lambda event: (instant(event["time"]), content(event)))
    return (ordered[0] if ordered else None), len({content(event) for event in events}) > 1


def _best_end(ends: Sequence[Event]) -> tuple[Event | None, bool]:
    """Only the ends whose usage source ranks best have a say."""
    for rank in RANKS:
        same = [event for event in ends if event["data"].get("usage_source") == rank]
        if same:
            return _winner(same, _end_content)
    return None, False


def _delivered(tokens: Sequence[Event]) -> dict[str, int]:
    """Each counter's maximum, where one was ever given."""
    counts: dict[str, int] = {}
    for event in tokens:
        for name in ("output_tokens", "reasoning_output_tokens"):
            if name in event["data"]:
                counts[name] = max(counts.get(name, 0), event["data"][name])
    return counts


def _billable_usage(start: Event | None, delivered: Mapping[str, int], end: Event | None) -> dict[str, int]:
    """The end's counters; for each it lacks, the delivered maximum; for input, the start's."""
    usage = dict(delivered)
    if start is not None and "input_tokens" in start["data"]:
        usage["input_tokens"] = start["data"]["input_tokens"]
    reported = (end["data"].get("usage") or {}) if end else {}
    return usage | {name: count for name, count in reported.items() if name in COUNTERS}


def _prices(start: Event | None, end: Event | None, terms: Terms):
    """The prices of the kinds, if the model has any, and whether the stream costs nothing for how it ended."""
    if start is None:
        return None, False
    data, at = start["data"], instant(start["time"])
    model = (end["data"].get("response_model") if end else None) or data["model"]
    prices = terms.prices(customer=start["subject"], provider=data["provider"], model=model, at=at)
    outcome = end["data"]["outcome"] if end else "abandoned"
    return prices, terms.waives(provider=data["provider"], outcome=outcome, at=at)


def _asked(start: Event | None) -> tuple[str, ...] | None:
    """What makes two streams the same request, where the gateway told it."""
    if start is None or not start["data"].get("request_hash"):
        return None
    return start["subject"], start["data"].get("api_key_id") or "", start["data"]["request_hash"]


def retries(bills: Mapping[Key, Bill], *, window: timedelta) -> dict[Key, str]:
    """The stream that each final one repeats: the last that asked for the same and was interrupted before it."""
    early = [
        each for each in bills.values() if each.outcome in ("cancelled", "failed", "abandoned") and each.asked
    ]
    found: dict[Key, str] = {}
    for key, each in bills.items():
        if each.state != "finalized" or each.asked is None:
            continue
        repeated = [
            (other.ended_at, other.stream_id)
            for other in early
            if other.asked == each.asked
            and other.stream_id != each.stream_id
            and each.started_at - window <= other.ended_at <= each.started_at
        ]
        if repeated:
            found[key] = max(repeated)[1]
    return found


def _read(usage: Mapping[str, int]) -> dict[str, int]:
    """The usage with every whole as large as its parts: those that do not fit stand beside it."""
    read = dict(usage)
    for whole, together, beside in FITS:
        if whole in read and sum(read.get(name, 0) for name in together) > read[whole]:
            read[whole] += sum(read.get(name, 0) for name in beside)
    return read


def _lines(usage: Mapping[str, int], prices) -> tuple[Line, ...] | None:
    """Each kind that has a price of its own, and the rest at the price of its whole; None without a price.

    Where nobody reported the whole, what is known of it is all there is of it. Cached and audio input that are
    more together than the input have that much in common. Audio output is never text.
    """
    read, written, audio = (
        usage.get(f"{name}_tokens", 0) for name in ("cache_read_input", "cache_write_input", "input_audio")
    )
    both = max(0, read + written + audio - usage.get("input_tokens", read + written + audio))
    heard = min(both, read)
    reasoning, spoken = usage.get("reasoning_output_tokens", 0), usage.get("output_audio_tokens", 0)
    parts = (
        (usage.get("input_tokens", 0) - (read + written + audio - both), ("input",)),
        (read - heard, ("cache_read", "input")),
        (heard, ("cache_read_audio", "cache_read", "input_audio", "input")),
        (written, ("cache_write", "input")),
        (audio - both, ("input_audio", "input")),
        (usage.get("output_tokens", 0) - reasoning - spoken, ("output",)),
        (reasoning, ("reasoning", "output")),
        (spoken, ("output_audio",)),
    )
    quantities: dict[str, int] = {}
    for quantity, kinds in parts:
        if quantity > 0:
            kind = next((kind for kind in kinds if kind in prices), None)
            if kind is None:
                return None
            quantities[kind] = quantities.get(kind, 0) + quantity
    size = usage.get("input_tokens", read + written + audio)
    return tuple(Line(kind, quantities[kind], prices[kind].at(size)) for kind in ORDER if kind in quantities)


ORDER = (
    "input",
    "cache_read",
    "cache_read_audio",
    "cache_write",
    "input_audio",
    "output",
    "reasoning",
    "output_audio",
)


@dataclass(slots=True)
class Total:
    """What one group adds up to, over final streams."""

    stream_count: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    cents: Fraction = Fraction(0)


def totals(bills: Iterable[Bill], *, group_by: Sequence[str], granularity: str) -> dict[tuple, Total]:
    """Final streams by (start of the hour, day or month of their end, *group_by); the start is None for `none`."""
    groups: dict[tuple, Total] = defaultdict(Total)
    for each in bills:
        if each.cents is None:
            continue
        total = groups[_floor(each.ended_at, granularity), *(getattr(each, name) for name in group_by)]
        total.stream_count += 1
        total.cents += each.cents
        for name, count in each.usage.items():
            total.tokens[name] += count
    return dict(groups)


def _floor(moment: datetime, granularity: str) -> datetime | None:
    if granularity == "none":
        return None
    kept = ("year", "month", "day", "hour")[: {"month": 2, "day": 3, "hour": 4}[granularity]]
    return datetime(*([getattr(moment, name) for name in kept] + [1] * (3 - len(kept))), tzinfo=UTC)
