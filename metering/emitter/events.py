"""The events as a gateway makes them: plain values are accepted, and wrong ones are refused at once.

What is wrong in an event would else be seen only by the server, after the stream, in its `rejected`. The bounds
are those of the contract (docs/events.md); a test compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from metering.events import events
from metering.events import usage as counters
from metering.events.events import Inlet, Outcome, UsageSource

MAX_COUNT = 9_007_199_254_740_991
MAX_ID, MAX_NAME, MAX_NOTE = 128, 256, 1_024
MAX_TAGS, MAX_FINISH_REASONS = 16, 128
_MAX_DECIMAL = Decimal(10**9)
_SECONDS_PLACES, _DOLLAR_PLACES = 3, 18

EnumT = TypeVar("EnumT", bound=StrEnum)


class Usage(counters.Usage, frozen=True, kw_only=True, gc=False):
    """Counts of one stream, in the meaning of docs/events.md: input includes the cache, output the reasoning.

    Raises:
        TypeError, ValueError: a counter is no whole number from 0 to 2^53 - 1; seconds are no exact decimal.
    """

    def __post_init__(self) -> None:
        for name, count in self.known().items():
            if name in counters.TIMED_COUNTERS:
                _check_decimal(name, count, _SECONDS_PLACES)
            else:
                check_count(name, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStart(events.StreamStart):
    """A completion was requested. Emit it before the first byte goes upstream.

    Raises:
        TypeError, ValueError: a field is wrong; the message names it.
    """

    def __post_init__(self) -> None:
        check_start(self)
        object.__setattr__(self, "inlet", inlet_of(self.inlet))


def check_start(start: events.StreamStart) -> events.StreamStart:
    """The stream-start, whose fields are right.

    Raises:
        TypeError, ValueError: a field is wrong; the message names it.
    """
    _check_envelope(start)
    _check_text("provider", start.provider, MAX_ID)
    _check_text("model", start.model, MAX_NAME)
    _check_text("operation", start.operation, MAX_NAME)
    _check_optional("api_key_id", start.api_key_id, MAX_ID)
    _check_optional("request_hash", start.request_hash, MAX_NOTE, least=0)
    _check_optional("service_tier", start.service_tier, MAX_NOTE, least=0)
    if not isinstance(start.streaming, bool):
        raise TypeError(f"streaming: expected True or False, got {start.streaming!r}")
    for name in ("input_tokens", "max_output_tokens"):
        if (count := getattr(start, name)) is not None:
            check_count(name, count)
    _check_tags(start.tags)
    inlet_of(start.inlet)
    return start


class TokenDelivered(events.TokenDelivered, frozen=True, kw_only=True, gc=False):
    """Counts since the start of the stream, cumulative; `seq` grows with each.

    Raises:
        TypeError, ValueError: a field is wrong; the message names it.
    """

    def __post_init__(self) -> None:
        _check_envelope(self)
        check_count("seq", self.seq)
        check_count("output_tokens", self.output_tokens)
        if self.reasoning_output_tokens is not None:
            check_count("reasoning_output_tokens", self.reasoning_output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd(events.StreamEnd):
    """The stream has ended. `outcome` and `usage_source` may be plain text, `usage` a mapping of our counters.

    Raises:
        TypeError, ValueError: a field is wrong; the message names it.
    """

    def __post_init__(self) -> None:
        _check_envelope(self)
        object.__setattr__(self, "outcome", outcome_of(self.outcome))
        if self.usage_source is not None:
            object.__setattr__(self, "usage_source", source_of(self.usage_source))
        object.__setattr__(self, "inlet", inlet_of(self.inlet))
        if self.usage is not None:
            object.__setattr__(self, "usage", _usage_of(self.usage))
        if self.finish_reasons is not None:
            object.__setattr__(self, "finish_reasons", _reasons_of(self.finish_reasons))
        _check_optional("response_provider", self.response_provider, MAX_ID)
        _check_optional("response_model", self.response_model, MAX_NAME)
        for name in ("response_id", "service_tier", "error_type"):
            _check_optional(name, getattr(self, name), MAX_NOTE, least=0)
        if self.upstream_cost_usd is not None:
            _check_decimal("upstream_cost_usd", self.upstream_cost_usd, _DOLLAR_PLACES)


# Abandoned is never sent: the service derives it from silence.
_OUTCOMES = tuple(outcome for outcome in Outcome if outcome is not Outcome.ABANDONED)


def outcome_of(value: object) -> Outcome:
    """The outcome with this text.

    Raises:
        ValueError: a gateway cannot send it.
    """
    return _one_of("outcome", value, _OUTCOMES)


def source_of(value: object) -> UsageSource:
    """The source of usage with this text.

    Raises:
        ValueError: there is none.
    """
    return _one_of("usage_source", value, tuple(UsageSource))


def inlet_of(value: object) -> Inlet:
    """The inlet with this text.

    Raises:
        ValueError: there is none.
    """
    return _one_of("inlet", value, tuple(Inlet))


def _one_of(name: str, value: object, members: tuple[EnumT, ...]) -> EnumT:
    found = next((member for member in members if member == value), None)
    if found is None:
        raise ValueError(f"{name}: expected one of {', '.join(members)}, got {value!r}")
    return found


def check_count(name: str, count: object) -> None:
    """Check a counter.

    Raises:
        TypeError, ValueError: it is no whole number from 0 to 2^53 - 1.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name}: expected a whole number, got {count!r}")
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"{name}: expected 0 to 2^53 - 1, got {count}")


def _check_envelope(event: events.UsageEvent) -> None:
    _check_text("customer_id", event.customer_id, MAX_ID)
    _check_text("stream_id", event.stream_id, MAX_ID)
    for name, value in (("customer_id", event.customer_id), ("stream_id", event.stream_id)):
        if value in (".", ".."):
            raise ValueError(f'{name}: expected an id other than "." and ".."')
    if not isinstance(event.time, datetime) or event.time.utcoffset() is None:
        raise TypeError(f"time: expected a datetime with a time zone, got {event.time!r}")


def _check_text(name: str, value: object, most: int, *, least: int = 1) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected text, got {value!r}")
    if not least <= len(value) <= most:
        raise ValueError(f"{name}: expected {least} to {most} characters, got {len(value)}")
    if "\0" in value:
        raise ValueError(f"{name}: expected text without NUL")


def _check_optional(name: str, value: object, most: int, *, least: int = 1) -> None:
    if value is not None:
        _check_text(name, value, most, least=least)


def _check_tags(tags: object) -> None:
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags: expected a mapping of text to text, got {tags!r}")
    if len(tags) > MAX_TAGS:
        raise ValueError(f"tags: expected at most {MAX_TAGS}, got {len(tags)}")
    for name, value in tags.items():
        _check_text("tags, a name", name, MAX_ID)
        _check_text(f"tags, {name!r}", value, MAX_NOTE, least=0)


def _check_decimal(name: str, value: object, places: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise TypeError(f"{name}: expected a Decimal, got {value!r}")
    if not 0 <= value <= _MAX_DECIMAL or value != round(Decimal(value), places):
        raise ValueError(f"{name}: expected 0 to 10^9 with at most {places} decimal places, got {value}")


def _usage_of(usage: object) -> counters.Usage:
    if isinstance(usage, counters.Usage):
        return usage
    if not isinstance(usage, Mapping):
        raise TypeError(f"usage: expected Usage or a mapping of its counters, got {usage!r}")
    if unknown := [str(name) for name in usage if name not in counters.COUNTERS]:
        raise ValueError(
            f"usage: no counter is called {', '.join(unknown)}; the counters are {', '.join(counters.COUNTERS)}."
            " `usage_of` reads the usage object of an upstream"
        )
    return Usage(**{str(name): count for name, count in usage.items()})


def _reasons_of(reasons: Any) -> tuple[str, ...]:
    if isinstance(reasons, str) or not isinstance(reasons, Sequence):
        raise TypeError(f"finish_reasons: expected a list of texts, got {reasons!r}")
    if len(reasons) > MAX_FINISH_REASONS:
        raise ValueError(f"finish_reasons: expected at most {MAX_FINISH_REASONS}, got {len(reasons)}")
    for reason in reasons:
        _check_text("finish_reasons", reason, MAX_NOTE, least=0)
    return tuple(reasons)
