"""The field types that answers share: ids, exact amounts, times, months and usage.

Answers are declared as TypedDicts and built as plain dicts. mypy checks that each shape function builds what its
route declares, FastAPI describes the types in `/openapi.json`, and nothing validates or copies an answer at run
time: a page of 1,000 charges is encoded once, as it is built.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired, cast

from pydantic import Field
from typing_extensions import TypedDict

from metering.core.money import cents_text
from metering.events.usage import Quantity, Usage

_AMOUNT = r"^-?\d+(\.\d+)?$"


def described(text: str, *, example: Any = None) -> Any:
    """The description of a declared field, with an example where one helps."""
    return Field(description=text, examples=None if example is None else [example])


Amount = Annotated[str, Field(pattern=_AMOUNT, json_schema_extra={"format": "decimal"})]
Cents = Annotated[
    Amount,
    described("Exact US cents as a decimal string, never rounded and without an exponent.", example="0.4985"),
]
Usd = Annotated[Amount, described("US dollars per million units, as a decimal string.", example="25")]
Percent = Annotated[Amount, described("A percentage as a decimal string.", example="20")]
Time = Annotated[
    str,
    Field(
        description="RFC 3339 in UTC.",
        json_schema_extra={"format": "date-time"},
        examples=["2026-11-23T15:00:00.123Z"],
    ),
]
Month = Annotated[str, Field(description="A calendar month.", pattern=r"^\d{4}-\d{2}$", examples=["2026-11"])]
CustomerId = Annotated[str, described("The customer who pays: the `subject` of the events.", example="acme")]
StreamId = Annotated[str, described("The stream, unique within its customer.", example="01J9")]
Provider = Annotated[str, described("The upstream provider, as the gateway named it.", example="anthropic")]
Model = Annotated[
    str, described("The model that was requested, as the gateway named it.", example="claude-opus-4.7")
]
TimeZone = Annotated[str, described("An IANA time zone; it decides where months begin.", example="Europe/Berlin")]
BookedBy = Annotated[str, described("Who did it: a key or a dashboard session.", example="key k1")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[str, described("Seconds of audio, as a decimal string.", example="12.5")]


class RareCounts(TypedDict):
    """Counters that few streams have; those without a count are absent."""

    cache_write_1h_input_tokens: NotRequired[
        Annotated[Count, described("Input tokens written to a prompt cache that keeps them for an hour.")]
    ]
    cache_read_input_audio_tokens: NotRequired[
        Annotated[Count, described("Audio tokens read from a prompt cache.")]
    ]
    cache_read_input_image_tokens: NotRequired[
        Annotated[Count, described("Image tokens read from a prompt cache.")]
    ]
    input_image_tokens: NotRequired[Annotated[Count, described("Image tokens of the input.")]]
    input_video_tokens: NotRequired[Annotated[Count, described("Video tokens of the input.")]]
    output_image_tokens: NotRequired[Annotated[Count, described("Image tokens of the output.")]]
    output_video_tokens: NotRequired[Annotated[Count, described("Video tokens of the output.")]]
    citation_output_tokens: NotRequired[Annotated[Count, described("Output tokens of citations.")]]
    web_searches: NotRequired[Annotated[Count, described("Searches of the web.")]]
    storage_searches: NotRequired[Annotated[Count, described("Searches of stored files.")]]
    input_audio_seconds: NotRequired[Seconds]
    audio_seconds: NotRequired[Seconds]
    input_characters: NotRequired[Annotated[Count, described("Characters of the input.")]]
    input_document_pages: NotRequired[Annotated[Count, described("Pages of the input's documents.")]]
    input_annotated_document_pages: NotRequired[Annotated[Count, described("Pages that were annotated.")]]
    input_text_messages: NotRequired[Annotated[Count, described("Text messages of the input.")]]


class UsageCounts(RareCounts):
    """Counts on the bill. A counter that was not reported is absent; input and output are 0 then."""

    input_tokens: Annotated[Count, described("Input tokens, cached and audio input included.", example=812)]
    output_tokens: Annotated[Count, described("Output tokens, reasoning and audio output included.", example=37)]
    cache_read_input_tokens: NotRequired[Annotated[Count, described("Input tokens read from a prompt cache.")]]
    cache_write_input_tokens: NotRequired[Annotated[Count, described("Input tokens written to a prompt cache.")]]
    reasoning_output_tokens: NotRequired[Annotated[Count, described("Output tokens spent on reasoning.")]]
    input_audio_tokens: NotRequired[Annotated[Count, described("Audio tokens of the input.")]]
    output_audio_tokens: NotRequired[Annotated[Count, described("Audio tokens of the output.")]]


def usage_shape(usage: Usage) -> UsageCounts:
    """The counters on the bill: input and output always, the others where they are known."""
    return cast("UsageCounts", {"input_tokens": 0, "output_tokens": 0, **plain_counts(usage.known())})


def plain_counts(counts: Mapping[str, Quantity]) -> dict[str, int | str]:
    """Counters as JSON has them: seconds are decimal strings."""
    return {name: count if isinstance(count, int) else cents_text(count) for name, count in counts.items()}


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC, as `2026-11-23T15:00:00.123Z`."""
    utc = moment.astimezone(UTC)
    precision = "seconds" if not utc.microsecond else "microseconds" if utc.microsecond % 1000 else "milliseconds"
    return utc.isoformat(timespec=precision).replace("+00:00", "Z")


def optional_time(moment: datetime | None) -> str | None:
    """`time_text`, or None for None."""
    return time_text(moment) if moment else None
