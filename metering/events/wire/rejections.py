"""Explain why an event is rejected: the field, what was expected and what was received."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

_LOCATED = re.compile(r"(?P<problem>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_WORDS = {
    "`int`": "an integer",
    "`str`": "a string",
    "`object`": "an object",
    "`array`": "an array",
    "`bool`": "true or false",
    "`null`": "null",
    "`datetime`": "an RFC 3339 time",
    "`float`": "a number with a fraction",
}
_ALLOWED = {
    "specversion": '"1.0"',
    "data.outcome": "completed, cancelled, failed or timed_out",
    "data.usage_source": "provider, gateway_count or estimate",
    "data.inlet": "events, litellm, otlp, openmeter or access_log",
}
_REQUIRED = ("type", "specversion", "source", "id", "subject", "time", "data")
_REQUIRED_DATA = {
    "stream-start": ("stream_id", "provider", "model"),
    "token-delivered": ("stream_id", "seq", "output_tokens"),
    "stream-end": ("stream_id", "outcome"),
}
_MAX_SHOWN = 80
_MAX_ID = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One rejected event. `index` is its position in the request."""

    index: int
    id: str | None
    code: str
    detail: str


def rejection_of(*, index: int, event: object, error: str) -> Rejection:
    """The rejection of an event that is valid JSON, but not a valid event.

    `error` is msgspec's message, such as "Expected `int` >= 0 - at `$.data.seq`".
    """
    if not isinstance(event, Mapping):
        return Rejection(
            index=index, id=None, code="invalid-event", detail=f"expected an object, got {_show(event)}"
        )
    problem, path = _located(error)
    code, detail = _explain(event, problem, path)
    return Rejection(index=index, id=shown_id(event.get("id")), code=code, detail=detail)


def what_is_wrong(body: object, error: str) -> str:
    """Msgspec's message about another body than an event, with the field and what was sent."""
    if not isinstance(body, Mapping):
        return f"expected an object, got {_show(body)}"
    problem, path = _located(error)
    if missing := _MISSING.fullmatch(problem):
        return f"{f'{path}.{missing[1]}'.lstrip('.')}: required, but missing"
    return _explain(body, problem, path)[1]


def _located(error: str) -> tuple[str, str]:
    """The problem in msgspec's message, and the path of its field."""
    match = _LOCATED.fullmatch(error)
    return (match["problem"], (match["path"] or "").lstrip(".")) if match else (error, "")


def shown_id(event_id: object) -> str | None:
    """The id of an event as answers repeat it: cut off if it is very long; None if it is not text."""
    if not isinstance(event_id, str):
        return None
    return event_id if len(event_id) <= _MAX_ID else f"{event_id[:_MAX_ID]}…"


def _missing_fields(event: Mapping[str, object]) -> list[str]:
    """All required fields that an event lacks: msgspec stops at the first."""
    data, kind = event.get("data"), event.get("type")
    required = _REQUIRED_DATA.get(kind, ()) if isinstance(kind, str) and isinstance(data, Mapping) else ()
    lacking = [f"data.{field}" for field in required if isinstance(data, Mapping) and field not in data]
    return [*(field for field in _REQUIRED if field not in event), *lacking]


def _explain(event: Mapping[str, object], problem: str, path: str) -> tuple[str, str]:
    if missing := _MISSING.fullmatch(problem):
        fields = _missing_fields(event) or [f"{path}.{missing[1]}".lstrip(".")]
        return "missing-field", f"{', '.join(fields)}: required, but missing"
    if path == "type":
        expected = "stream-start, token-delivered or stream-end"
        return "unknown-type", f"type: expected {expected}, got {_show(event.get('type'))}"
    value = _value_at(event, path)
    if problem.startswith("Invalid enum value"):
        return "invalid-field", f"{path}: expected {_ALLOWED.get(path, 'an allowed value')}, got {_show(value)}"
    problem = problem.replace(" | null", "")
    for found, word in _WORDS.items():
        problem = problem.replace(found, word)
    problem = problem.split(", got")[0].replace("of length", "with a length")
    path = path[:_MAX_ID]
    return "invalid-field", f"{path}: {problem[:1].lower()}{problem[1:]}, got {_show(value)}"


def _value_at(event: object, path: str) -> object:
    for step in path.split("."):
        name = step.split("[")[0]
        if not isinstance(event, Mapping) or name not in event:
            return event
        event = event[name]
    return event


def _show(value: object) -> str:
    shown = msgspec.json.encode(value).decode()
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
