"""The three events that a gateway posts about a stream, and the fingerprint that shows whether two are equal.

Names and meanings are public (docs/events.md). Events contain no prompt or completion text.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b
from typing import ClassVar

import msgspec

from metering.events.usage import Quantity, Usage

# Of an event's time: far enough from the calendar's limits that a month has bounds in every time zone.
FIRST_YEAR, LAST_YEAR = 1970, MAXYEAR - 1


class Outcome(StrEnum):
    """How a stream ended. `ABANDONED` is never posted: the service derives it from silence."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"


class UsageSource(StrEnum):
    """Who counted the tokens: the provider, a tokenizer for this model, or an estimate."""

    PROVIDER = "provider"
    GATEWAY_COUNT = "gateway_count"
    ESTIMATE = "estimate"


class Inlet(StrEnum):
    """How the facts of a stream came in, which says how much their sender can know.

    `EVENTS` and `LITELLM` watch the stream itself: they know what a cancelled one delivered. The others report it
    when it is over.
    """

    EVENTS = "events"
    LITELLM = "litellm"
    OTLP = "otlp"
    OPENMETER = "openmeter"
    ACCESS_LOG = "access_log"


# What each way in can know, as receipts and pages say it.
EVIDENCE = {
    Inlet.EVENTS: "the gateway watched the stream, also when it was cancelled",
    Inlet.LITELLM: "LiteLLM watched the stream, also when it was cancelled",
    Inlet.OTLP: "from a trace or a log: what a cancelled stream delivered is not known",
    Inlet.OPENMETER: "from a usage event: how the stream ended is not known",
    Inlet.ACCESS_LOG: "from an access log: what a cancelled stream delivered is not known",
}


class _DescribedOnce(ABC):
    """An event whose attributes are made once: its fingerprint and its stored document are both made of them."""

    __slots__ = ("_made",)

    def attributes(self) -> Mapping[str, object]:
        """The event's `data` without the stream's id and without unknown values; not to be changed."""
        made: Mapping[str, object] | None = getattr(self, "_made", None)
        if made is None:
            made = self._attributes()
            object.__setattr__(self, "_made", made)
        return made

    @abstractmethod
    def _attributes(self) -> dict[str, object]:
        """The same, made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStart(_DescribedOnce):
    """A completion was requested; sent before the first byte goes upstream."""

    EVENT_TYPE: ClassVar[str] = "stream-start"

    customer_id: str
    stream_id: str
    time: datetime
    provider: str
    model: str
    streaming: bool = True
    operation: str = "chat"
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    api_key_id: str | None = None
    request_hash: str | None = None
    service_tier: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    inlet: Inlet = Inlet.EVENTS
    failed_open: bool = False

    @property
    def event_id(self) -> str:
        return f"{self.stream_id}:start"

    def _attributes(self) -> dict[str, object]:
        return _without_none(
            provider=self.provider,
            model=self.model,
            streaming=self.streaming,
            operation=self.operation,
            input_tokens=self.input_tokens,
            max_output_tokens=self.max_output_tokens,
            api_key_id=self.api_key_id,
            request_hash=self.request_hash,
            service_tier=self.service_tier,
            tags=dict(self.tags) or None,
            inlet=_said(self.inlet),
            failed_open=self.failed_open or None,
        )


class TokenDelivered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Cumulative counts since the start of the stream; only the highest matters."""

    EVENT_TYPE: ClassVar[str] = "token-delivered"

    customer_id: str
    stream_id: str
    time: datetime
    seq: int
    output_tokens: int
    reasoning_output_tokens: int | None = None

    @property
    def event_id(self) -> str:
        return f"{self.stream_id}:t:{self.seq}"

    def attributes(self) -> dict[str, object]:
        """The event's `data` without the stream's id and without unknown values."""
        return _without_none(
            seq=self.seq,
            output_tokens=self.output_tokens,
            reasoning_output_tokens=self.reasoning_output_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd(_DescribedOnce):
    """The stream has ended with this outcome. `usage` is what the gateway knows at that time.

    `service_tier` is the one that the answer names. `upstream_cost_usd` is what the upstream says that it cost.
    """

    EVENT_TYPE: ClassVar[str] = "stream-end"

    customer_id: str
    stream_id: str
    time: datetime
    outcome: Outcome
    usage: Usage | None = None
    usage_source: UsageSource | None = None
    finish_reasons: tuple[str, ...] | None = None
    response_provider: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    error_type: str | None = None
    upstream_cost_usd: Decimal | None = None
    inlet: Inlet = Inlet.EVENTS

    @property
    def event_id(self) -> str:
        return f"{self.stream_id}:end"

    def _attributes(self) -> dict[str, object]:
        return _without_none(
            outcome=str(self.outcome),
            usage=None if self.usage is None else _plain(self.usage.known()),
            usage_source=None if self.usage_source is None else str(self.usage_source),
            finish_reasons=None if self.finish_reasons is None else list(self.finish_reasons),
            response_provider=self.response_provider,
            response_model=self.response_model,
            response_id=self.response_id,
            service_tier=self.service_tier,
            error_type=self.error_type,
            upstream_cost_usd=None if self.upstream_cost_usd is None else str(self.upstream_cost_usd),
            inlet=_said(self.inlet),
        )


UsageEvent = StreamStart | TokenDelivered | StreamEnd

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def fingerprint(event: StreamStart | StreamEnd) -> int:
    """A signed 64-bit hash of the event's attributes, without its time.

    Two starts (or ends) of one stream with equal fingerprints do not conflict, so a gateway can send an event
    again with a new timestamp. The hash is signed, so that PostgreSQL's bigint orders it as Python does. It covers
    the canonical JSON: keys sorted, no spaces, characters not escaped.
    """
    return hash64(_canonical(event.attributes()).encode())


_EVENT_ID = re.compile(r"(.+):(?:start|end|t:[0-9]{1,18})", re.DOTALL)


def stream_of_event(event_id: str) -> str | None:
    """The stream that an event is of, by the id that our emitters give it; None for any other id.

    >>> stream_of_event("cmpl-1:t:12"), stream_of_event("cmpl-1:start"), stream_of_event("cmpl-1")
    ('cmpl-1', 'cmpl-1', None)
    """
    found = _EVENT_ID.fullmatch(event_id)
    return found[1] if found else None


def hash64(content: bytes) -> int:
    """A signed 64-bit hash of bytes."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True)


def _plain(usage: dict[str, Quantity]) -> dict[str, int | str]:
    """Counters as they are sent: seconds are text."""
    return {name: count if type(count) is int else str(count) for name, count in usage.items()}


def _said(inlet: Inlet) -> str | None:
    """As events say it: those of a gateway's own need not."""
    return None if inlet is Inlet.EVENTS else str(inlet)


def _without_none(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
