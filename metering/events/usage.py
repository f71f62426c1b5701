"""Usage: how many tokens of each kind a stream used, and how the kinds nest.

Counters have OpenTelemetry's meaning (GenAI semantic conventions): `input_tokens` includes cached and audio input,
`output_tokens` includes reasoning and audio output.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter


class UsageKind(StrEnum):
    """The kinds of usage that have rates and charge lines."""

    INPUT = "input"
    CACHE_READ = "cache_read"
    CACHE_WRITE = "cache_write"
    INPUT_AUDIO = "input_audio"
    OUTPUT = "output"
    REASONING = "reasoning"
    OUTPUT_AUDIO = "output_audio"
    # Some models also have a price per request; a stream is one request.
    REQUEST = "request"


# A parent counter includes its nested counters. They are subtracted from it in this order.
NESTED_KINDS: dict[UsageKind, tuple[UsageKind, ...]] = {
    UsageKind.INPUT: (UsageKind.CACHE_READ, UsageKind.CACHE_WRITE, UsageKind.INPUT_AUDIO),
    UsageKind.OUTPUT: (UsageKind.REASONING, UsageKind.OUTPUT_AUDIO),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one stream. None means unknown, which is not the same as 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None

    def filled(
        self, *, input_tokens: int | None, output_tokens: int | None, reasoning_output_tokens: int | None
    ) -> "Usage":
        """These counts, with unknown ones replaced by the given counts."""
        missing = {
            name: count
            for name, known, count in (
                ("input_tokens", self.input_tokens, input_tokens),
                ("output_tokens", self.output_tokens, output_tokens),
                ("reasoning_output_tokens", self.reasoning_output_tokens, reasoning_output_tokens),
            )
            if known is None and count is not None
        }
        return replace(self, **missing) if missing else self

    def count(self, kind: UsageKind) -> int | None:
        """The reported count of a token kind (not `REQUEST`); None if unknown."""
        value: int | None = getattr(self, COUNTER_OF_KIND[kind])
        return value

    def counts(self) -> tuple[int | None, ...]:
        """All counters, in the order of COUNTERS."""
        return _counts(self)

    def known(self) -> dict[str, int]:
        """The known counters, by their public field name."""
        return {name: value for name in COUNTERS if (value := getattr(self, name)) is not None}


COUNTERS: tuple[str, ...] = tuple(field.name for field in fields(Usage))
_counts: Callable[[Usage], tuple[int | None, ...]] = attrgetter(*COUNTERS)

COUNTER_OF_KIND: dict[UsageKind, str] = {
    UsageKind.INPUT: "input_tokens",
    UsageKind.CACHE_READ: "cache_read_input_tokens",
    UsageKind.CACHE_WRITE: "cache_write_input_tokens",
    UsageKind.INPUT_AUDIO: "input_audio_tokens",
    UsageKind.OUTPUT: "output_tokens",
    UsageKind.REASONING: "reasoning_output_tokens",
    UsageKind.OUTPUT_AUDIO: "output_audio_tokens",
}
