"""Server-Sent Events, split out of a byte stream that may break anywhere, with their bytes kept as received."""

import re
from dataclasses import dataclass

from metering.core.errors import MeteringError

MAX_EVENT_BYTES = 8 << 20

# An event ends at an empty line; a line ends with CRLF, LF or CR.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLargeError(MeteringError):
    """An event of the upstream does not end within the bound."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """`raw` is what to forward; `data` is None for comments and keep-alives."""

    raw: bytes
    data: bytes | None


class SseParser:
    """Feed it what arrives; it gives back the events that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that `chunk` completes.

        Raises:
            EventTooLargeError: more than 8 MiB without an event's end.
        """
        self._buffer += chunk
        events: list[SseEvent] = []
        start = 0
        # A trailing CR may be half of a CRLF: it counts only once the next byte is known.
        end = len(self._buffer) - (1 if self._buffer.endswith(b"\r") else 0)
        while match := _EVENT_END.search(self._buffer, max(start, self._searched), end):
            events.append(_event(bytes(self._buffer[start : match.end()])))
            start = self._searched = match.end()
        del self._buffer[:start]
        # Three bytes back: an end that is only half there is found with the next chunk.
        self._searched = max(0, len(self._buffer) - 3)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"the upstream sent an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def finish(self) -> list[SseEvent]:
        """What is left when the stream ends: servers may leave out the last empty line."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        self._searched = 0
        return [_event(rest)] if rest else []


def _event(raw: bytes) -> SseEvent:
    lines = _LINE_END.split(raw.removeprefix(_BYTE_ORDER_MARK))
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    return SseEvent(raw, b"\n".join(data) if data else None)
