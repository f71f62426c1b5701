"""Server-Sent Events: a byte stream, which may break anywhere, is split into events."""

import re
from typing import NamedTuple

from metering.core.errors import MeteringError

MAX_EVENT_BYTES = 8 << 20

# An event ends at an empty line; a line ends with CRLF, LF or CR.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Nearly all upstreams write one line of data an event, and end it with two newlines.
_PLAIN_EVENT = re.compile(rb"data: ([^\r\n]*)\n\n")


class EventTooLargeError(MeteringError):
    """An event of the upstream is too large."""


class SseEvent(NamedTuple):
    """`raw` has the received bytes, to be forwarded; `data` is None for comments and keep-alives."""

    raw: bytes
    data: bytes | None


class SseParser:
    """Splits a byte stream into events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that the chunk completes.

        Raises:
            EventTooLargeError: more than 8 MiB without the end of an event.
        """
        if not self._buffer and (plain := _PLAIN_EVENT.fullmatch(chunk)):
            return [SseEvent(chunk, plain[1])]
        self._buffer += chunk
        events: list[SseEvent] = []
        start = 0
        # A trailing CR may be half of a CRLF: it counts only once the next byte is known.
        end = len(self._buffer) - (1 if self._buffer.endswith(b"\r") else 0)
        while match := _EVENT_END.search(self._buffer, max(start, self._searched), end):
            events.append(_event(bytes(self._buffer[start : match.end()])))
            start = self._searched = match.end()
        del self._buffer[:start]
        # Three bytes back, because the next chunk may complete an event end that has begun.
        self._searched = max(0, len(self._buffer) - 3)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"the upstream sent an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def finish(self) -> list[SseEvent]:
        """What is left: the last event, if the server left out the empty line after it, or a part of one."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        self._searched = 0
        return [_event(rest)] if rest else []


def _event(raw: bytes) -> SseEvent:
    if plain := _PLAIN_EVENT.fullmatch(raw):
        return SseEvent(raw, plain[1])
    lines = _LINE_END.split(raw.removeprefix(_BYTE_ORDER_MARK))
    data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
    return SseEvent(raw, b"\n".join(data) if data else None)
