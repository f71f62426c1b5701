"""Server-Sent Events come out whole wherever the network cuts them."""

import pytest

from metering.answers.chunks import MAX_EVENT_BYTES, EventTooLargeError, SseParser

_STREAM = (
    b'data: {"text": "caf\xc3\xa9 \xf0\x9f\x8c\x8a"}\n\n'
    b": keep-alive\n\n"
    b"data:no space\r\n\r\n"
    b"event: note\r\ndata: first\r\ndata: second\r\n\r\n"
    b"id: 7\rdata: only carriage returns\r\r"
    b"data: [DONE]\n\n"
)
_DATA = [
    '{"text": "café 🌊"}'.encode(),
    None,
    b"no space",
    b"first\nsecond",
    b"only carriage returns",
    b"[DONE]",
]


def _parse(*chunks: bytes) -> tuple[list[bytes | None], bytes]:
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()
    return [event.data for event in events], b"".join(event.raw for event in events)


def test_events_come_out_whole_when_cut_at_any_byte() -> None:
    for cut in range(len(_STREAM) + 1):
        assert _parse(_STREAM[:cut], _STREAM[cut:]) == (_DATA, _STREAM), f"cut at {cut}"


def test_events_come_out_whole_when_cut_at_any_two_bytes() -> None:
    tail = _STREAM[40:]
    for first in range(len(tail)):
        for second in range(first, min(first + 8, len(tail))):
            data, raw = _parse(_STREAM[:40], tail[:first], tail[first:second], tail[second:])
            assert (data, raw) == (_DATA, _STREAM), f"cut at {first} and {second}"


def test_events_come_out_whole_byte_by_byte() -> None:
    assert _parse(*(bytes([byte]) for byte in _STREAM)) == (_DATA, _STREAM)


def test_an_event_comes_out_as_soon_as_it_is_complete() -> None:
    parser = SseParser()
    assert parser.feed(b"data: one\n") == []
    assert [event.data for event in parser.feed(b"\ndata: tw")] == [b"one"]


def test_a_last_event_without_its_empty_line_counts() -> None:
    assert _parse(b"data: one\n\ndata: [DONE]") == ([b"one", b"[DONE]"], b"data: one\n\ndata: [DONE]")


def test_a_byte_order_mark_does_not_hide_the_first_event() -> None:
    assert _parse(b"\xef\xbb\xbfdata: one\n\n")[0] == [b"one"]


def test_an_event_that_never_ends_is_refused() -> None:
    parser = SseParser()
    for _ in range(MAX_EVENT_BYTES // 65_536):
        assert parser.feed(b"x" * 65_536) == []
    with pytest.raises(EventTooLargeError):
        parser.feed(b"x")
