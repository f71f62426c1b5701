"""What a route is given: the ids, filters and times of a request, the base of its body, and the service."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime, time
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Header, Path, Query, Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError
from sqlalchemy import Connection

from metering.api.problems import InvalidParameterError
from metering.core.money import plain_decimal
from metering.core.period import PERIOD_PATTERN, BillingPeriod
from metering.db.cancellation import Cancellation
from metering.db.engine import transaction
from metering.server.bootstrap import Service

# Names of clients may be long: comparing one with every known name must stay cheap, and an answer short.
_MAX_COMPARED = 64
_MAX_NAMED = 5
_MAX_SHOWN = 80


def unknown_names(unknown: Sequence[str], *, known: Iterable[str], what: str) -> str:
    """A sentence for each unknown name, with the known name that is close to it.

    >>> unknown_names(["form"], known=["from", "to"], what="query parameter")
    'form: unknown query parameter, did you mean from?'
    """
    candidates = list(known)
    return "; ".join(
        f"{name[:_MAX_SHOWN]}: unknown {what}{_hint(name, candidates)}" for name in unknown[:_MAX_NAMED]
    )


def _hint(name: str, candidates: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1) if len(name) <= _MAX_COMPARED else []
    return f", did you mean {close[0]}?" if close else ""


class Input(BaseModel):
    """The body of a request. Unknown fields are refused by name, and so is text with NUL, at every depth."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        if unknown := [str(name) for name in given if name not in cls.model_fields]:
            says = unknown_names(unknown, known=cls.model_fields, what="field")
            raise PydanticCustomError("unknown_field", "{says}", {"says": says})
        if (where := nul_at(given)) is not None:
            raise PydanticCustomError("nul", "{field}: contains NUL, which no text here may", {"field": where})
        return given


def nul_at(given: Any, where: str = "") -> str | None:
    """Where text with NUL is in a body, which PostgreSQL's text cannot hold; None if there is none."""
    if isinstance(given, str):
        return where if "\0" in given else None
    if isinstance(given, Mapping):
        places = (nul_at(value, f"{where}.{name}" if where else str(name)) for name, value in given.items())
    elif isinstance(given, list):
        places = (nul_at(value, f"{where}.{place}") for place, value in enumerate(given))
    else:
        return None
    return next((place for place in places if place is not None), None)


# PostgreSQL's text cannot hold NUL.
_NO_NUL = r"^[^\x00]+$"


def _whole_number(given: Any) -> Any:
    """Refuse what pydantic would read as an integer, such as `true` and `"24"`. JSON's `24.0` is the integer."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise PydanticCustomError("whole_number", "expected an integer, such as 24")
    return given


# For integers of bodies; it stands last, so that their bounds are described. Truth values are `StrictBool`.
WHOLE_NUMBER = BeforeValidator(_whole_number)

Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_NO_NUL)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_NO_NUL)]
Reason = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2_000, pattern=_NO_NUL),
    Field(description="Why; it is stored and shown with the amount.", examples=["Outage on 2026-11-20"]),
]


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul", "contains NUL, which no stored name does")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
CustomerFilter = Annotated[
    Text | None,
    Query(
        description="Only this customer. A key that is bound to a customer may name no other.", examples=["acme"]
    ),
]
ModelFilter = Annotated[Text | None, Query(description="Only this model.", examples=["claude-opus-4.7"])]
ProviderFilter = Annotated[Text | None, Query(description="Only this provider.", examples=["anthropic"])]


# An offset whose `+` was not escaped in a URL, where it means a space.
_UNESCAPED = re.compile(r"\S+ \d\d:\d\d")


def _rfc3339(given: Any) -> Any:
    """Refuse the numbers that pydantic would read as seconds since 1970."""
    if isinstance(given, str) and _UNESCAPED.fullmatch(given) and "T" in given:
        escaped = {"escaped": given.replace(" ", "%2B")}
        raise PydanticCustomError("unescaped", "write + as %2B in a URL, such as {escaped}", escaped)
    if isinstance(given, datetime) or (isinstance(given, str) and re.match(r"\d{4}-\d{2}-\d{2}", given)):
        return given
    raise PydanticCustomError("rfc3339", "expected RFC 3339 with an offset, such as 2026-11-23T15:00:00Z")


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        example = {"example": f"{moment.isoformat()}Z"}
        raise PydanticCustomError("offset", "needs an offset, such as {example}", example)
    if not MINYEAR < moment.year < MAXYEAR:  # at the ends of the calendar there is no month before or after
        years = {"first": MINYEAR + 1, "last": MAXYEAR - 1}
        raise PydanticCustomError("year", "needs a year from {first} to {last}", years)
    return moment.astimezone(UTC)


# A time of a request, in UTC.
Timestamp = Annotated[datetime, BeforeValidator(_rfc3339), AfterValidator(_in_utc)]
_FROM_TEXT = "From this time on, inclusive; RFC 3339 with an offset."
_TO_TEXT = "Up to this time, exclusive; RFC 3339 with an offset."
FromFilter = Annotated[
    Timestamp | None, Query(alias="from", description=_FROM_TEXT, examples=["2026-11-01T00:00:00Z"])
]
ToFilter = Annotated[Timestamp | None, Query(description=_TO_TEXT, examples=["2026-12-01T00:00:00Z"])]
RequiredFrom = Annotated[Timestamp, Query(alias="from", description=_FROM_TEXT, examples=["2026-11-01T00:00:00Z"])]
RequiredTo = Annotated[Timestamp, Query(description=_TO_TEXT, examples=["2026-12-01T00:00:00Z"])]
EffectiveFrom = Annotated[
    Timestamp | None,
    Field(
        description="It applies to streams that start from this time on; RFC 3339 with an offset. Default: now.",
        examples=["2026-12-01T00:00:00Z"],
    ),
]


def _clock_text(given: Any) -> Any:
    if isinstance(given, time) or (isinstance(given, str) and ":" in given):
        return given
    raise PydanticCustomError("clock", "expected a time of day, such as 23:30:00")


_CLOCK = {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$"}
TimeOfDay = Annotated[time, BeforeValidator(_clock_text), WithJsonSchema(_CLOCK)]

_MONTH_TEXT = "A month, such as 2026-10."
_MONTH = Query(description=_MONTH_TEXT, examples=["2026-10"], json_schema_extra={"pattern": f"^{PERIOD_PATTERN}$"})
MonthFilter = Annotated[str | None, _MONTH]
RequiredMonth = Annotated[str, _MONTH]


def month_text(period: str | None) -> str | None:
    """A month in its one spelling.

    Raises:
        InvalidPeriodError: it is not a month.
    """
    return str(BillingPeriod.parse(period)) if period is not None else None


def _plain_number(given: Any) -> Any:
    """Take plain digits only: what else Python reads as a number (`1_000`, ` 1`, `1e3`), other readers do not."""
    if isinstance(given, str):
        try:
            return plain_decimal(given)
        except ValueError as error:
            raise PydanticCustomError("plain_number", "{says}", {"says": str(error)}) from error
    if isinstance(given, int) and not isinstance(given, bool):
        return Decimal(given)
    if isinstance(given, Decimal):
        return given
    raise PydanticCustomError("number_as_text", 'expected a number as text, such as "12.5": others lose digits')


PlainNumber = BeforeValidator(_plain_number)


def decimal_schema(
    *,
    example: str,
    pattern: str = r"^-?[0-9]{1,18}(\.[0-9]{1,12})?$",
    least: int = 1 - 10**18,
    most: int = 10**18 - 1,
) -> WithJsonSchema:
    """How amounts in bodies are described: as strings, because JSON numbers lose digits in many clients.

    `pattern` has the strings, `least` and `most` bound the integers.
    """
    written = {"type": "string", "format": "decimal", "pattern": pattern, "examples": [example]}
    whole = {"type": "integer", "minimum": least, "maximum": most}
    return WithJsonSchema({"anyOf": [written, whole]}, mode="validation")


CentsInput = Annotated[
    Decimal,
    PlainNumber,
    Field(max_digits=30, decimal_places=12, allow_inf_nan=False),
    decimal_schema(example="500000"),
]


def idempotency_key(example: str) -> Any:
    """The header that makes a request safe to repeat."""
    return Header(
        min_length=1,
        max_length=255,
        description="Any text that is unique to this request. Repeating the request with it changes nothing and"
        " gets the same answer.",
        examples=[example],
    )


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _connection(request: Request) -> Iterator[Connection]:
    cancellation: Cancellation = request.state.cancellation
    with transaction(_service(request).engine) as connection, cancellation.covers(connection):
        yield connection


# It ends when the route has built its answer: a client that does not read the answer holds no connection.
Db = Annotated[Connection, Depends(_connection, scope="function")]
TheService = Annotated[Service, Depends(_service)]

_CustomerPath = Annotated[
    str, Path(description="The customer; a slash in the id is written `%2F`.", examples=["acme"])
]
_StreamPath = Annotated[
    str, Path(description="The stream; a slash in the id is written `%2F`.", examples=["01J9"])
]


def stream_key_before(
    suffix: str, *, under: str = "/v1/streams/"
) -> Callable[[Request, str, str], tuple[str, str]]:
    """A dependency that gives (customer_id, stream_id) of a path under `under` that ends in `suffix`."""

    def stream_key(request: Request, customer_id: _CustomerPath, stream_id: _StreamPath) -> tuple[str, str]:
        """Both ids as they were sent: routing has undone %2F, and cannot tell an id's slash from another."""
        raw: bytes = request.scope["raw_path"]
        sent = raw.partition(under.encode())[2].decode("ascii", "replace").removesuffix(suffix)
        encoded_customer, slash, encoded_stream = sent.partition("/")
        key = (unquote(encoded_customer), unquote(encoded_stream)) if slash else (customer_id, stream_id)
        if "\0" in "".join(key):
            raise InvalidParameterError("the path contains NUL, which no stored name does")
        return key

    return stream_key


stream_key = stream_key_before("")
