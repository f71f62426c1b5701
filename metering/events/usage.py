"""Usage: how much of each kind a stream used.

Counters have OpenTelemetry's meaning (GenAI semantic conventions): `input_tokens` includes cached input and media,
`output_tokens` includes reasoning, citations and media. `nesting.py` has the whole tree.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, structs

# A quantity of a kind: a count, or seconds with at most three decimal places.
Quantity = int | Decimal


class UsageKind(StrEnum):
    """The kinds of usage that have rates and charge lines, in the order in which lines are shown."""

    INPUT = "input"
    CACHE_READ = "cache_read"
    CACHE_READ_AUDIO = "cache_read_audio"
    CACHE_READ_IMAGE = "cache_read_image"
    CACHE_WRITE = "cache_write"
    CACHE_WRITE_1H = "cache_write_1h"
    INPUT_AUDIO = "input_audio"
    INPUT_IMAGE = "input_image"
    INPUT_VIDEO = "input_video"
    OUTPUT = "output"
    REASONING = "reasoning"
    CITATION = "citation"
    OUTPUT_AUDIO = "output_audio"
    OUTPUT_IMAGE = "output_image"
    OUTPUT_VIDEO = "output_video"
    AUDIO_SECONDS = "audio_seconds"
    INPUT_AUDIO_SECONDS = "input_audio_seconds"
    INPUT_CHARACTERS = "input_characters"
    INPUT_DOCUMENT_PAGES = "input_document_pages"
    INPUT_ANNOTATED_DOCUMENT_PAGES = "input_annotated_document_pages"
    INPUT_TEXT_MESSAGES = "input_text_messages"
    WEB_SEARCHES = "web_searches"
    STORAGE_SEARCHES = "storage_searches"
    # Some models also have a price per request; a stream is one request.
    REQUEST = "request"
    # What the upstream says that a stream cost, where that is the price: the quantity is 1.
    UPSTREAM_COST = "upstream_cost"


# Kinds that are measured in seconds and priced per hour. All others are counted, and priced per million.
TIMED_KINDS = frozenset({UsageKind.AUDIO_SECONDS, UsageKind.INPUT_AUDIO_SECONDS})


class Usage(Struct, frozen=True, kw_only=True, gc=False):
    """Counts of one stream. None means unknown, which is not the same as 0. Seconds have three decimal places.

    A struct of msgspec, because a dataclass of 23 fields takes 30 times as long to make (decision 24).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    cache_write_1h_input_tokens: int | None = None
    cache_read_input_audio_tokens: int | None = None
    cache_read_input_image_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    output_image_tokens: int | None = None
    output_video_tokens: int | None = None
    citation_output_tokens: int | None = None
    web_searches: int | None = None
    storage_searches: int | None = None
    input_audio_seconds: Decimal | None = None
    audio_seconds: Decimal | None = None
    input_characters: int | None = None
    input_document_pages: int | None = None
    input_annotated_document_pages: int | None = None
    input_text_messages: int | None = None

    def filled(
        self, *, input_tokens: int | None, output_tokens: int | None, reasoning_output_tokens: int | None
    ) -> "Usage":
        """These counts, with unknown ones replaced by the given counts."""
        entered = input_tokens if self.input_tokens is None else self.input_tokens
        left = output_tokens if self.output_tokens is None else self.output_tokens
        reasoning = self.reasoning_output_tokens
        if reasoning is None:
            reasoning = reasoning_output_tokens
        if (
            entered == self.input_tokens
            and left == self.output_tokens
            and reasoning == self.reasoning_output_tokens
        ):
            return self
        return structs.replace(self, input_tokens=entered, output_tokens=left, reasoning_output_tokens=reasoning)

    def count(self, kind: UsageKind) -> Quantity | None:
        """The reported quantity of a kind that has a counter; None if unknown."""
        value: Quantity | None = getattr(self, COUNTER_OF_KIND[kind])
        return value

    def counts(self) -> tuple[Quantity | None, ...]:
        """All counters, in the order of COUNTERS."""
        return structs.astuple(self)

    def known(self) -> dict[str, Quantity]:
        """The known counters, by their public field name."""
        return {name: value for name, value in zip(COUNTERS, self.counts(), strict=True) if value is not None}


COUNTERS: tuple[str, ...] = Usage.__struct_fields__
# The counters before this place are usual; few streams have any of the others.
USUAL_COUNTERS = 7
TIMED_COUNTERS = frozenset({"input_audio_seconds", "audio_seconds"})

# Kinds that are no tokens have the name of their counter.
COUNTER_OF_KIND: dict[UsageKind, str] = {
    UsageKind.INPUT: "input_tokens",
    UsageKind.CACHE_READ: "cache_read_input_tokens",
    UsageKind.CACHE_READ_AUDIO: "cache_read_input_audio_tokens",
    UsageKind.CACHE_READ_IMAGE: "cache_read_input_image_tokens",
    UsageKind.CACHE_WRITE: "cache_write_input_tokens",
    UsageKind.CACHE_WRITE_1H: "cache_write_1h_input_tokens",
    UsageKind.INPUT_AUDIO: "input_audio_tokens",
    UsageKind.INPUT_IMAGE: "input_image_tokens",
    UsageKind.INPUT_VIDEO: "input_video_tokens",
    UsageKind.OUTPUT: "output_tokens",
    UsageKind.REASONING: "reasoning_output_tokens",
    UsageKind.CITATION: "citation_output_tokens",
    UsageKind.OUTPUT_AUDIO: "output_audio_tokens",
    UsageKind.OUTPUT_IMAGE: "output_image_tokens",
    UsageKind.OUTPUT_VIDEO: "output_video_tokens",
    **{kind: kind.value for kind in UsageKind if kind.value in COUNTERS},
}
