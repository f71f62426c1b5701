"""Legal events with the shortest, the longest and the oddest value of each field, as the fields are declared."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct, inspect

from metering.events.wire.events import (
    DeliveredData,
    DeliveredEvent,
    Dollars,
    EndData,
    Seconds,
    StartData,
    UsageData,
)

# What breaks a page, a file, a path, a query, a log line or a terminal that takes it for something else.
TEXTS = (
    '=HYPERLINK("http://127.0.0.1/","pay")',
    "-1+1|cmd",
    "a/b?c=d#e%2Ff&g;h",
    "../../../etc/passwd",
    "%00%0a",
    "<script>alert(1)</script>",
    "'; DROP TABLE streams; --",
    '"quoted", and; separated\\',
    "{{ 7 * 7 }} ${7} %s %(x)s {0}",
    " both ends ",
    "NULL",
    "nan",
    "-0",
    "1e999",
    "true",
    "\u202eright to left",
    "e\u0301 \u00e9 \ufb01 \u0130",
    "\u200b\ufeff",
    "\U0010ffff\ud7ff\ue000",
    "👩‍👩‍👧‍👦",
)
CONTROLS = ("a\tb", "a\r\nb: c", "\x1b[31mred", "\x7f\x85")
TIMES = (
    "1970-01-01T00:00:00Z",
    "2019-12-31T23:59:59.999999Z",
    "9998-12-31T23:59:59.999999+00:00",
    "2016-12-31T23:59:60Z",
    "{day}T00:00:00.0000001+14:00",
    "{day}t12:00:00-12:00",
)
# Ids that are part of addresses and billed to; a customer's may have no control characters.
_STRICT = ("subject",)


@dataclass(frozen=True, slots=True)
class Place:
    """A field of an event: the event's kind, where its object is, and what the field may hold."""

    kind: str
    path: tuple[str, ...]
    name: str
    type: inspect.Type

    @property
    def values(self) -> tuple[Any, ...]:
        found = tuple(_values(self.type))
        return found if self.name in _STRICT else (*found, *self._controls())

    def _controls(self) -> tuple[str, ...]:
        return CONTROLS if isinstance(self.type, inspect.StrType) else ()

    def set(self, stream: "Events", value: Any) -> None:
        """Set the field in the stream's event of this kind; an id that joins events, in all of them."""
        for kind, event in stream.items():
            if self.name in ("stream_id", "subject") or kind == self.kind:
                at = event
                for step in self.path:
                    at = at.setdefault(step, {})
                at[self.name] = value


Events = dict[str, dict[str, Any]]
_ENVELOPE = {"stream-start": ("subject", "source", "id", "time"), "token-delivered": (), "stream-end": ("time",)}


def places() -> list[Place]:
    """All fields of events, as the contract has them in code; literals are covered by their values."""
    found = [
        Place(kind, (), name, _fields(DeliveredEvent)[name]) for kind, names in _ENVELOPE.items() for name in names
    ]
    objects: tuple[tuple[str, tuple[str, ...], type[Struct]], ...] = (
        ("stream-start", ("data",), StartData),
        ("token-delivered", ("data",), DeliveredData),
        ("stream-end", ("data",), EndData),
        ("stream-end", ("data", "usage"), UsageData),
    )
    for kind, path, struct in objects:
        found += [
            Place(kind, path, name, type_)
            for name, type_ in _fields(struct).items()
            if (name, kind) not in (("stream_id", "token-delivered"), ("stream_id", "stream-end"), ("usage", kind))
        ]
    return found


def _fields(struct: type[Struct]) -> dict[str, inspect.Type]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: _known(field.type) for field in info.fields}


def _known(type_: inspect.Type) -> inspect.Type:
    """The type without the None that says that the field may be absent."""
    if isinstance(type_, inspect.UnionType):
        (type_,) = [each for each in type_.types if not isinstance(each, inspect.NoneType)]
    return type_


def _values(type_: inspect.Type) -> Iterator[Any]:
    match type_:
        case inspect.StrType(min_length=least, max_length=most):
            yield "x" * (least or 0)
            yield "🦀" * (most or 0)
            yield from (text for text in TEXTS if (least or 0) <= len(text) <= (most or 0))
        case inspect.IntType(ge=least, le=most):
            yield from (least, 1, most)
        case inspect.BoolType():
            yield from (True, False)
        case inspect.LiteralType(values=values):
            yield from values
        case inspect.DateTimeType():
            yield from TIMES
        case inspect.ListType(item_type=item, max_length=most):
            texts = list(_values(item))
            # An event has 256 KiB at most: 60 of the longest texts, or as many short ones as there may be.
            yield from ([], texts, [texts[1]] * 60, ["x"] * (most or 0))
        case inspect.DictType(key_type=key, value_type=value, max_length=most):
            keys, texts = list(_values(key)), list(_values(value))
            yield {}
            yield {f"{number}{keys[1]}"[:128]: texts[1] for number in range(most or 0)}
            for begin in range(0, len(keys), most or 1):
                yield dict(zip(keys[begin : begin + (most or 1)], texts[begin:], strict=False))
        case inspect.CustomType(cls=cls) if cls is Seconds:
            yield from ("0", "0.001", "1000000000", 7)
        case inspect.CustomType(cls=cls) if cls is Dollars:
            yield from ("0", "0.000000000000000001", "1000000000", 3)
        case _:
            raise AssertionError(f"a type of field that is new here: {type_}")


def plain_stream(stream_id: str, *, customer_id: str, day: datetime) -> Events:
    """A stream of which everything is usual."""

    def event(kind: str, seconds: int, **data: Any) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "type": kind,
            "source": "/gateways/odd",
            "id": f"{kind}:{stream_id}",
            "subject": customer_id,
            "time": (day + timedelta(seconds=seconds)).isoformat(),
            "data": {"stream_id": stream_id, **data},
        }

    usage = {"input_tokens": 812, "output_tokens": 37}
    return {
        "stream-start": event("stream-start", 0, provider="anthropic", model="claude-opus-4.7", input_tokens=812),
        "token-delivered": event("token-delivered", 1, seq=1, output_tokens=20),
        "stream-end": event("stream-end", 4, outcome="completed", usage=usage, usage_source="provider"),
    }


def odd_streams(*, day: datetime, combined: int, seed: int) -> list[Events]:
    """A stream for each value of each field, and `combined` streams with several odd values each."""
    streams: list[Events] = []
    everything = places()
    for place in everything:
        for value in place.values:
            streams.append(_plain(len(streams), day))
            _set(streams[-1], place, value, day)
    chance = random.Random(seed)
    for _ in range(combined):
        streams.append(_plain(len(streams), day))
        for place in chance.sample(everything, chance.randint(2, 12)):
            if place.name not in ("stream_id", "subject", "time"):
                _set(streams[-1], place, chance.choice(place.values), day)
    return streams


def _plain(number: int, day: datetime) -> Events:
    return plain_stream(f"odd-{number}", customer_id=f"customer-{number % 7}", day=day)


def _set(stream: Events, place: Place, value: Any, day: datetime) -> None:
    place.set(stream, value.format(day=day.date()) if place.name == "time" else value)


def names_of(streams: Sequence[Events]) -> list[tuple[str, str]]:
    """(customer_id, stream_id) of each."""
    return [(start["subject"], start["data"]["stream_id"]) for start in (each["stream-start"] for each in streams)]


def middle_of(month: str) -> datetime:
    """A moment in a month that is in it in every time zone."""
    return datetime.fromisoformat(f"{month}-10T12:00:00").replace(tzinfo=UTC)
