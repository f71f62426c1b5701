"""A completion as a record reports it at its end, and the two events that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import msgspec

from metering.answers.usage import MAX_COUNT, Amount
from metering.answers.words import MAX_ID, MAX_NAME, exact_text
from metering.events.events import (
    FIRST_YEAR,
    LAST_YEAR,
    Inlet,
    Outcome,
    StreamEnd,
    StreamStart,
    UsageEvent,
    UsageSource,
)
from metering.events.usage import Usage
from metering.translations.translated import TranslatedEvent

_MAX_SHOWN_ID = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Whose key posted a request, and when it arrived. `customer_id` and `source` are what the key is bound to."""

    received_at: datetime
    customer_id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A completion that is over. `usage` None: nothing is known of it. `source` is that of its events."""

    customer_id: str
    stream_id: str
    source: str
    inlet: Inlet
    provider: str
    model: str
    started_at: datetime
    ended_at: datetime
    outcome: Outcome = Outcome.COMPLETED
    usage: Usage | None = None
    usage_source: UsageSource | None = None
    streaming: bool = True
    operation: str = "chat"
    api_key_id: str | None = None
    request_hash: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    error_type: str | None = None
    upstream_cost_usd: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def start(self, *, input_tokens: int | None = None) -> dict[str, object]:
        """Its stream-start as JSON of the contract."""
        event = StreamStart(
            customer_id=self.customer_id,
            stream_id=self.stream_id,
            time=self.started_at,
            provider=self.provider,
            model=self.model,
            streaming=self.streaming,
            operation=self.operation,
            input_tokens=input_tokens,
            api_key_id=self.api_key_id,
            request_hash=self.request_hash,
            service_tier=self.service_tier,
            tags=self.tags,
            inlet=self.inlet,
        )
        return _json(event, self.source)

    def end(self) -> dict[str, object]:
        """Its stream-end as JSON of the contract."""
        event = StreamEnd(
            customer_id=self.customer_id,
            stream_id=self.stream_id,
            time=self.ended_at,
            outcome=self.outcome,
            usage=self.usage,
            usage_source=None if self.usage is None else self.usage_source,
            response_model=self.response_model,
            response_id=self.response_id,
            error_type=self.error_type,
            inlet=self.inlet,
        )
        document = _json(event, self.source)
        data = document["data"]
        if self.upstream_cost_usd is not None and isinstance(data, dict):
            # On the wire it is a part of the usage, as upstreams report it.
            data["usage"] = {**data.get("usage", {}), "upstream_cost_usd": self.upstream_cost_usd}
        return document

    def events(self, record: int) -> tuple[TranslatedEvent, TranslatedEvent]:
        """Both, made of the record at this place."""
        return (
            TranslatedEvent(record=record, event=self.start()),
            TranslatedEvent(record=record, event=self.end()),
        )


def _json(event: UsageEvent, source: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "type": event.EVENT_TYPE,
        "source": source,
        "id": event.event_id,
        "subject": event.customer_id,
        "time": event.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": {"stream_id": event.stream_id, **event.attributes()},
    }


def stream_id_of(inlet: Inlet, shown: str, *more: object) -> str:
    """The stream of a record: the same whenever the record is sent, and another one for any other record.

    `shown` is the record's own id, which is kept readable where it is short and plain. `more` is what else tells
    records apart: two senders, or two attempts, may use one id.

    >>> stream_id_of(Inlet.OPENMETER, "5c10fade", "my-app")
    'openmeter:5c10fade:9d63fc624e57ad07'
    """
    digest = blake2b(msgspec.json.encode([repr(each) for each in (shown, *more)]), digest_size=8).hexdigest()
    if exact_text(shown, _MAX_SHOWN_ID) is None or not shown.isprintable():
        return f"{inlet}:{digest}"
    return f"{inlet}:{shown}:{digest}"


def identifier(value: object) -> str | None:
    """An id for an event, such as a customer's; None if the value cannot be one."""
    text = exact_text(value, MAX_ID)
    return None if text in (".", "..") else text


def name_of(value: object) -> str | None:
    """A model's name for an event; None if the value cannot be one."""
    return exact_text(value, MAX_NAME)


def time_of(value: object) -> datetime | None:
    """A time as RFC 3339 with its offset; None for anything else, or if no event can have it."""
    if not isinstance(value, str) or len(value) > _MAX_SHOWN_ID:
        return None
    try:
        found = datetime.fromisoformat(value)
        return None if found.tzinfo is None else _possible(found.astimezone(UTC))
    except (ValueError, OverflowError):
        return None


def time_after_epoch(value: object, *, unit: timedelta) -> datetime | None:
    """A time as a number of units since 1970; None for anything else, or if no event can have it."""
    duration = duration_of(value, unit=unit)
    return None if duration is None else time_later(_EPOCH, duration)


def time_later(at: datetime, duration: timedelta) -> datetime | None:
    """The time so much later; None if no event can have it."""
    try:
        return _possible(at + duration)
    except OverflowError:
        return None


def _possible(at: datetime) -> datetime | None:
    return at if FIRST_YEAR <= at.year <= LAST_YEAR else None


def duration_of(value: object, *, unit: timedelta) -> timedelta | None:
    """A number of units, also where it is written as text; None if it is none, or negative."""
    if isinstance(value, str) and len(value) <= _MAX_SHOWN_ID:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = value * unit
    except (OverflowError, ValueError):
        return None
    return found if found >= timedelta(0) else None


def usage_of(counters: Mapping[str, Amount]) -> tuple[Usage | None, str | None]:
    """The usage that counters make, and what the upstream says that it cost; None where nothing is known.

    Sums may be larger than any event can say: such a usage is not known.
    """
    counts = {name: amount for name, amount in counters.items() if name != "upstream_cost_usd"}
    cost = counters.get("upstream_cost_usd")
    if any(amount > MAX_COUNT for amount in counts.values()):
        return None, None
    usage = Usage(**counts) if counts else None  # type: ignore[arg-type]
    return usage, None if cost is None or usage is None else f"{cost:f}"
