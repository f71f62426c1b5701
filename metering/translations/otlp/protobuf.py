"""OTLP in protobuf: the few fields that are needed are read, and all others are skipped, prompts among them.

This reads the wire format itself. The library decodes a request whole and holds the interpreter's lock meanwhile:
for a body of 8 MiB that is made of empty spans, for 0.9 s and in 700 MB (decision 56). Here the number of fields
is bounded, nothing recurses, and nothing is copied that is not used. Tests compare it with the library.
"""

import struct
from collections.abc import Iterator, Mapping

from metering.translations.otlp.records import InvalidOtlpError, Record, TooManyFieldsError, Value, next_place

# A request of 5,000 calls with 40 attributes each has about as many.
MAX_FIELDS = 1_000_000
_MAX_LIST = 128

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")
_SIGN, _WRAP = 1 << 63, 1 << 64

# Tags: the number of the field, and how it is written. Those of the same name are equal in traces and in logs.
_RESOURCES = _SCOPES = 1 << 3 | _BYTES
_RESOURCE = _SCOPE = 1 << 3 | _BYTES
_SCOPE_GROUPS = _RECORDS = 2 << 3 | _BYTES
_KEY, _VALUE = 1 << 3 | _BYTES, 2 << 3 | _BYTES
_RESOURCE_ATTRIBUTES = 1 << 3 | _BYTES
_SCOPE_NAME = 1 << 3 | _BYTES

_SPAN_TRACE_ID, _SPAN_ID, _SPAN_PARENT_ID = 1 << 3 | _BYTES, 2 << 3 | _BYTES, 4 << 3 | _BYTES
_SPAN_KIND, _SPAN_START, _SPAN_END = 6 << 3 | _VARINT, 7 << 3 | _EIGHT, 8 << 3 | _EIGHT
_SPAN_ATTRIBUTES, _SPAN_EVENTS, _SPAN_STATUS = 9 << 3 | _BYTES, 11 << 3 | _BYTES, 15 << 3 | _BYTES
_STATUS_MESSAGE, _STATUS_CODE = 2 << 3 | _BYTES, 3 << 3 | _VARINT
_EVENT_NAME, _EVENT_ATTRIBUTES = 2 << 3 | _BYTES, 3 << 3 | _BYTES

_LOG_TIME, _LOG_OBSERVED_TIME = 1 << 3 | _EIGHT, 11 << 3 | _EIGHT
_LOG_ATTRIBUTES, _LOG_TRACE_ID, _LOG_SPAN_ID = 6 << 3 | _BYTES, 9 << 3 | _BYTES, 10 << 3 | _BYTES
_LOG_EVENT_NAME = 12 << 3 | _BYTES

_TEXT, _BOOL, _INT = 1 << 3 | _BYTES, 2 << 3 | _VARINT, 3 << 3 | _VARINT
_NUMBER, _LIST = 4 << 3 | _EIGHT, 5 << 3 | _BYTES

_EXCEPTION_TYPE = {b"exception.type": "exception.type"}
_EVENT_NAME_KEY = {b"event.name": "event.name"}


def read_traces(body: bytes, *, names: frozenset[str]) -> list[Record]:
    """The spans of an ExportTraceServiceRequest, with those of their attributes that are in `names`.

    Raises:
        InvalidOtlpError: it is none.
        TooManyFieldsError: it has too many fields.
    """
    return _Reader(body, names).records(is_log=False)


def read_logs(body: bytes, *, names: frozenset[str]) -> list[Record]:
    """The log records of an ExportLogsServiceRequest, likewise."""
    return _Reader(body, names).records(is_log=True)


class _Reader:
    """Reads one body."""

    def __init__(self, body: bytes, names: frozenset[str]) -> None:
        self._body = body
        self._names = {name.encode(): name for name in names}
        self._left = MAX_FIELDS

    def records(self, *, is_log: bool) -> list[Record]:
        found: list[Record] = []
        try:
            for tag, begin, end in self._fields(0, len(self._body)):
                if tag == _RESOURCES:
                    self._read_resource(found, begin, end, is_log)
        except IndexError:
            raise InvalidOtlpError("it ends within a field") from None
        except UnicodeDecodeError:
            raise InvalidOtlpError("a text is not UTF-8") from None
        return found

    def _read_resource(self, found: list[Record], begin: int, end: int, is_log: bool) -> None:
        groups: list[tuple[int, int]] = []
        resource: dict[str, Value] = {}
        for tag, at, until in self._fields(begin, end):
            if tag == _SCOPE_GROUPS:
                groups.append((at, until))
            elif tag == _RESOURCE:
                for inner, first, last in self._fields(at, until):
                    if inner == _RESOURCE_ATTRIBUTES:
                        self._note(resource, first, last, self._names)
        for at, until in groups:
            self._read_group(found, resource, at, until, is_log)

    def _read_group(
        self, found: list[Record], resource: dict[str, Value], begin: int, end: int, is_log: bool
    ) -> None:
        scope, places = "", []
        for tag, at, until in self._fields(begin, end):
            if tag == _RECORDS:
                places.append((at, until))
            elif tag == _SCOPE:
                for inner, first, last in self._fields(at, until):
                    if inner == _SCOPE_NAME:
                        scope = self._text(first, last)
        read = self._log if is_log else self._span
        for at, until in places:
            found.append(read(next_place(found), resource, scope, at, until))

    def _span(self, place: int, resource: dict[str, Value], scope: str, begin: int, end: int) -> Record:
        body = self._body
        attributes: dict[str, Value] = {}
        trace_id = span_id = parent_id = message = ""
        kind = started = ended = status = 0
        exception: str | None = None
        for tag, at, until in self._fields(begin, end):
            if tag == _SPAN_ATTRIBUTES:
                self._note(attributes, at, until, self._names)
            elif tag == _SPAN_TRACE_ID:
                trace_id = body[at:until].hex()
            elif tag == _SPAN_ID:
                span_id = body[at:until].hex()
            elif tag == _SPAN_PARENT_ID:
                parent_id = body[at:until].hex()
            elif tag == _SPAN_KIND:
                kind = at
            elif tag == _SPAN_START:
                started = at
            elif tag == _SPAN_END:
                ended = at
            elif tag == _SPAN_EVENTS:
                exception = self._exception(at, until) or exception
            elif tag == _SPAN_STATUS:
                status, message = self._status(at, until)
        return Record(
            place=place,
            attributes=attributes,
            resource=resource,
            scope=scope,
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent_id,
            kind=kind,
            started_ns=started,
            ended_ns=ended,
            status=status,
            status_message=message,
            exception=exception,
        )

    def _log(self, place: int, resource: dict[str, Value], scope: str, begin: int, end: int) -> Record:
        attributes: dict[str, Value] = {}
        trace_id = span_id = name = ""
        time = observed = 0
        named: dict[str, Value] = {}
        for tag, at, until in self._fields(begin, end):
            if tag == _LOG_ATTRIBUTES:
                self._note(attributes, at, until, self._names)
                self._note(named, at, until, _EVENT_NAME_KEY)
            elif tag == _LOG_TRACE_ID:
                trace_id = self._body[at:until].hex()
            elif tag == _LOG_SPAN_ID:
                span_id = self._body[at:until].hex()
            elif tag == _LOG_EVENT_NAME:
                name = self._text(at, until)
            elif tag == _LOG_TIME:
                time = at
            elif tag == _LOG_OBSERVED_TIME:
                observed = at
        return Record(
            place=place,
            attributes=attributes,
            resource=resource,
            scope=scope,
            trace_id=trace_id,
            span_id=span_id,
            started_ns=time or observed,
            ended_ns=time or observed,
            event_name=name or str(named.get("event.name", "")),
        )

    def _status(self, begin: int, end: int) -> tuple[int, str]:
        code, message = 0, ""
        for tag, at, until in self._fields(begin, end):
            if tag == _STATUS_CODE:
                code = at
            elif tag == _STATUS_MESSAGE:
                message = self._text(at, until)
        return code, message

    def _exception(self, begin: int, end: int) -> str | None:
        """The type of an exception, if the event of a span is one."""
        found: dict[str, Value] = {}
        for tag, at, until in self._fields(begin, end):
            if tag == _EVENT_NAME and self._body[at:until] != b"exception":
                return None
            if tag == _EVENT_ATTRIBUTES:
                self._note(found, at, until, _EXCEPTION_TYPE)
        kind = found.get("exception.type")
        return kind if isinstance(kind, str) else None

    def _note(self, noted: dict[str, Value], begin: int, end: int, names: Mapping[bytes, str]) -> None:
        """Note an attribute if it is one of these names and has a value."""
        name: str | None = None
        place: tuple[int, int] | None = None
        for tag, at, until in self._fields(begin, end):
            if tag == _KEY:
                name = names.get(self._body[at:until])
                if name is None:
                    return
            elif tag == _VALUE:
                place = (at, until)
        if name is not None and place is not None and (value := self._value(*place)) is not None:
            noted[name] = value

    def _value(self, begin: int, end: int) -> Value | None:
        found: Value | None = None
        for tag, at, until in self._fields(begin, end):
            if tag == _TEXT:
                found = self._text(at, until)
            elif tag == _BOOL:
                found = at != 0
            elif tag == _INT:
                found = at - _WRAP if at & _SIGN else at
            elif tag == _NUMBER:
                found = _DOUBLE.unpack(at.to_bytes(8, "little"))[0]
            elif tag == _LIST:
                found = self._list(at, until)
        return found

    def _list(self, begin: int, end: int) -> list[str]:
        """The first texts of a list."""
        found: list[str] = []
        for tag, at, until in self._fields(begin, end):
            if tag == _TEXT:
                for inner, first, last in self._fields(at, until):
                    if inner == _TEXT:
                        found.append(self._text(first, last))
            if len(found) >= _MAX_LIST:
                break
        return found

    def _text(self, begin: int, end: int) -> str:
        return self._body[begin:end].decode()

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Each field of a message: its tag, and its value, or where its bytes begin and end."""
        body = self._body
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise TooManyFieldsError(MAX_FIELDS)
            tag = body[at]
            at += 1
            if tag >= 0x80:
                tag, at = self._varint(at - 1)
            if not 8 <= tag < 1 << 32:
                raise InvalidOtlpError("a field has the number 0, or one that is too large")
            kind = tag & 7
            if kind == _BYTES:
                size = body[at]
                at += 1
                if size >= 0x80:
                    size, at = self._varint(at - 1)
                begin, at = at, at + size
                if at > end:
                    raise InvalidOtlpError("a field is longer than what it is in")
                yield tag, begin, at
                continue
            if kind == _VARINT:
                value, at = self._varint(at)
            elif kind in (_EIGHT, _FOUR):
                size = 8 if kind == _EIGHT else 4
                value, at = int.from_bytes(body[at : at + size], "little"), at + size
            else:
                raise InvalidOtlpError(f"a field is written in the way {kind}, which is not used")
            if at > end:
                raise InvalidOtlpError("a field is longer than what it is in")
            yield tag, value, 0

    def _varint(self, at: int) -> tuple[int, int]:
        """A number, and where the next byte is. What is above 64 bits is dropped, as the library does."""
        body, number = self._body, 0
        for shift in range(0, 70, 7):
            byte = body[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number & (_WRAP - 1), at
        raise InvalidOtlpError("a number has more than ten bytes")
