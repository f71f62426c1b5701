"""What is read of a span or of a log record, whichever format it came in, and how a body can fail to be read."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from metering.core.errors import MeteringError

Value = str | bool | int | float | list[str]
Attributes = Mapping[str, Value]

# Of the kinds of spans; 0 is unspecified.
KINDS = {0: "unspecified", 1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
STATUS_ERROR = 2
# Of 8 MiB, each would have 84 bytes: fewer than the ids and times of a span take.
MAX_RECORDS = 100_000


class SpanId(NamedTuple):
    """Which span it is: both ids in lower-case hex."""

    trace_id: str
    span_id: str


class Record(Struct, frozen=True, gc=False, kw_only=True):
    """A span, or a log record: `event_name` is None for spans, and a log record has the same time twice.

    Ids are lower-case hex, `""` if absent; times are nanoseconds since 1970, 0 if absent. Attributes are those
    that were asked for. `exception` is the type of an exception that was recorded as an event of the span.
    """

    place: int
    attributes: Attributes
    resource: Attributes
    scope: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""
    kind: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    status: int = 0
    status_message: str = ""
    exception: str | None = None
    event_name: str | None = None

    @property
    def key(self) -> SpanId:
        """Which span it is, or is about."""
        return SpanId(self.trace_id, self.span_id)


class InvalidOtlpError(MeteringError):
    """The body is no OTLP request; the message says where."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the body is not an OTLP request: {detail}")


class TooManyFieldsError(MeteringError):
    """The body has far more fields or records than a request of 8 MiB needs; it was not read to its end."""

    def __init__(self, most: int, *, of: str = "fields") -> None:
        super().__init__(f"the body has more than {most:,} {of}: send fewer spans or records at a time")


def next_place(found: list[Record]) -> int:
    """The place of the next record of a request.

    Raises:
        TooManyFieldsError: there are too many already.
    """
    if len(found) >= MAX_RECORDS:
        raise TooManyFieldsError(MAX_RECORDS, of="records")
    return len(found)
