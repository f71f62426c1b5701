"""The field types that answers share: ids, exact amounts, times, months and usage.

Answers are declared as TypedDicts and built as plain dicts. mypy checks that each shape function builds what its
route declares, FastAPI describes the types in `/openapi.json`, and nothing validates or copies an answer at run
time: a page of 1,000 charges is encoded once, as it is built.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, NotRequired, cast

from pydantic import Field
from typing_extensions import TypedDict

from metering.events.usage import Usage

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


class UsageCounts(TypedDict):
    """Token counts on the bill. A counter that was not reported is absent; input and output are 0 then."""

    input_tokens: Annotated[Count, described("Input tokens, cached and audio input included.", example=812)]
    output_tokens: Annotated[Count, described("Output tokens, reasoning and audio output included.", example=37)]
    cache_read_input_tokens: NotRequired[Annotated[Count, described("Input tokens read from a prompt cache.")]]
    cache_write_input_tokens: NotRequired[Annotated[Count, described("Input tokens written to a prompt cache.")]]
    reasoning_output_tokens: NotRequired[Annotated[Count, described("Output tokens spent on reasoning.")]]
    input_audio_tokens: NotRequired[Annotated[Count, described("Audio tokens of the input.")]]
    output_audio_tokens: NotRequired[Annotated[Count, described("Audio tokens of the output.")]]


def usage_shape(usage: Usage) -> UsageCounts:
    """The counters on the bill: input and output always, the others where they are known."""
    return cast("UsageCounts", {"input_tokens": 0, "output_tokens": 0, **usage.known()})


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC, as `2026-11-23T15:00:00.123Z`."""
    utc = moment.astimezone(UTC)
    precision = "seconds" if not utc.microsecond else "microseconds" if utc.microsecond % 1000 else "milliseconds"
    return utc.isoformat(timespec=precision).replace("+00:00", "Z")


def optional_time(moment: datetime | None) -> str | None:
    """`time_text`, or None for None."""
    return time_text(moment) if moment else None
