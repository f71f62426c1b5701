"""The declared mapping of OpenMeter's event types to usage, in TOML (`openmeter_types.toml` explains it)."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from metering.core.errors import MeteringError
from metering.events.usage import COUNTERS, TIMED_COUNTERS

_DECLARED = Path(__file__).with_name("openmeter_types.toml")
COUNTED = tuple(name for name in COUNTERS if name not in TIMED_COUNTERS)


class OpenMeterTypesError(MeteringError):
    """The declared mapping cannot be used; the message says why."""


class TypeMapping(Struct, frozen=True, forbid_unknown_fields=True):
    """How the `data` of a type becomes usage.

    Either `tokens` is the field with a number and `kind` the one that says what it counts, by `kinds`; or
    `counters` names the counter of each field. With one of the fields `stream`, the events of a completion share a
    stream.
    """

    model: tuple[str, ...] = ("model",)
    provider: tuple[str, ...] = ("provider",)
    tokens: str = "tokens"
    kind: str = "type"
    kinds: dict[str, str] = {}
    counters: dict[str, str] = {}
    stream: tuple[str, ...] = ("stream_id", "completion_id", "request_id")
    usage_source: Literal["provider", "gateway_count", "estimate"] | None = None


class OpenMeterTypes(Struct, frozen=True, forbid_unknown_fields=True):
    """The mapping of each type, the types without tokens, and providers by the start of a model's name."""

    types: dict[str, TypeMapping] = {}
    providers: dict[str, Annotated[str, Meta(min_length=1, max_length=128)]] = {}
    ignored: tuple[str, ...] = ()

    def provider_of(self, model: str) -> str | None:
        """Who serves a model, by the longest start of its name that is known."""
        name = model.lower()
        starts = [start for start in self.providers if name.startswith(start)]
        return self.providers[max(starts, key=len)] if starts else None


def read_types(text: str) -> OpenMeterTypes:
    """A mapping from TOML.

    Raises:
        OpenMeterTypesError: it is no such mapping; the message names the type or the field.
    """
    try:
        found = msgspec.convert(tomllib.loads(text), OpenMeterTypes)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise OpenMeterTypesError(str(error)) from error
    for name, mapping in found.types.items():
        if problem := next(_problems(mapping), None):
            raise OpenMeterTypesError(f"types.{name}: {problem}")
    return found


def _problems(mapping: TypeMapping) -> Iterator[str]:
    if bool(mapping.kinds) == bool(mapping.counters):
        yield "expected either kinds or counters"
    for field, counter in {**mapping.kinds, **mapping.counters}.items():
        if counter not in COUNTED:
            yield f"{field}: expected a counter such as input_tokens, got {counter!r}"


def declared_types(own: str | None = None) -> OpenMeterTypes:
    """The mapping that comes with the service, with the types, providers and ignored types of `own` added.

    Raises:
        OpenMeterTypesError: `own` is no mapping.
    """
    usual = read_types(_DECLARED.read_text(encoding="utf-8"))
    if own is None:
        return usual
    added = read_types(own)
    return OpenMeterTypes(
        types={**usual.types, **added.types},
        providers={**usual.providers, **{start.lower(): name for start, name in added.providers.items()}},
        ignored=tuple(name for name in (*usual.ignored, *added.ignored) if name not in added.types),
    )
