"""Behaviours that differ in HTTP and in the framing of events, and not in what they say."""

import gzip
import zlib
from dataclasses import replace
from typing import Any

from tests.gateway.hostile.behaviours import (
    DONE,
    TOKENS,
    Behaviour,
    Step,
    Write,
    at_once,
    by_provider,
    finish,
    openai_usage,
    usage_chunk,
    words,
)

_ANSWER: list[Step] = [*words(), finish(), usage_chunk(openai_usage()), DONE]
_BYTES = b"".join(step.data for step in _ANSWER if isinstance(step, Write))


def _framed(name: str, **changes: Any) -> Behaviour:
    return Behaviour(f"framing-{name}", _ANSWER, by_provider()).but(**changes)


def _rewritten(name: str, old: bytes, new: bytes, **changes: Any) -> Behaviour:
    steps = [Write(step.data.replace(old, new), step.tokens) for step in _ANSWER if isinstance(step, Write)]
    return _framed(name, steps=steps, **changes)


def _whole(name: str, data: bytes, **changes: Any) -> Behaviour:
    return _framed(name, steps=[Write(data, TOKENS)], **changes)


_DEFLATE = zlib.compressobj(wbits=-15)
_RAW_DEFLATED = _DEFLATE.compress(_BYTES) + _DEFLATE.flush()

# The stock client fails here, also without a gateway.
_UNREAD_BY_THE_SDK = replace(by_provider(), text=None)

BEHAVIOURS = [
    _framed("chunked"),
    _framed("length", framing="length"),
    _framed("close", framing="close"),
    _framed("one-byte-chunks", piece=1),
    _framed("seven-byte-chunks", piece=7),
    _framed("one-byte-writes", piece=1, framing="length"),
    _framed("all-at-once", steps=[Write(_BYTES, TOKENS)]),
    _framed("charset", content_type="text/event-stream; charset=utf-8"),
    _framed("upper-case-type", content_type="Text/Event-Stream"),
    _framed("text-plain", content_type="text/plain"),
    _framed("json-type", content_type="application/json"),
    _framed("octet-stream", content_type="application/octet-stream"),
    _framed("no-type", content_type=None),
    _framed("no-type-close", content_type=None, framing="close"),
    _framed("text-plain-bytewise", content_type="text/plain", piece=1),
    _framed("stream-1", request={"stream": 1}),
    _framed("stream-1-plain", request={"stream": 1}, content_type="text/plain"),
    _framed("stream-word", request={"stream": "true"}),
    _framed("stream-word-json", request={"stream": "on"}, content_type="application/json"),
    _framed("stream-unknown-word", request={"stream": "please"}),
    _rewritten("crlf", b"\n", b"\r\n"),
    _rewritten("cr", b"\n", b"\r"),
    _rewritten("no-space", b"data: ", b"data:"),
    _rewritten("event-lines", b"data: ", b"event: message\ndata: "),
    _rewritten("id-and-retry", b"data: ", b"id: 7\nretry: 1000\ndata: "),
    _rewritten("comments", b"data: ", b": still here\n\ndata: "),
    _rewritten("comments-plain", b"data: ", b": still here\n\ndata: ", content_type="text/plain"),
    at_once(_rewritten("empty-data", b"data: {", b"data:\n\ndata: {", expected=_UNREAD_BY_THE_SDK)),
    _rewritten("blank-lines", b"data: ", b"\n\ndata: "),
    _rewritten("two-data-lines", b',"object"', b'\ndata: ,"object"'),
    _whole("byte-order-mark", b"\xef\xbb\xbf" + _BYTES, expected=_UNREAD_BY_THE_SDK),
    _whole("leading-newlines-plain", b"\n\n" + _BYTES, content_type="text/plain"),
    _whole("no-last-newline", _BYTES.rstrip(b"\n")),
    _whole("gzip", gzip.compress(_BYTES), headers=(("content-encoding", "gzip"),)),
    _whole("gzip-bytewise", gzip.compress(_BYTES), headers=(("content-encoding", "gzip"),), piece=1),
    _whole("gzip-close", gzip.compress(_BYTES), headers=(("content-encoding", "gzip"),), framing="close"),
    _whole(
        "gzip-members",
        gzip.compress(_BYTES[:900]) + gzip.compress(_BYTES[900:]),
        headers=(("content-encoding", "gzip"),),
    ),
    _whole("deflate", zlib.compress(_BYTES), headers=(("content-encoding", "deflate"),)),
    _whole("raw-deflate", _RAW_DEFLATED, headers=(("content-encoding", "deflate"),)),
    _framed("early-hints", before_head=b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
    _framed("continue", before_head=b"HTTP/1.1 100 Continue\r\n\r\n"),
    _framed("odd-headers", headers=(("x-odd", "a\tb \u00e9"), ("x-empty", ""), ("server", "odd/1"))),
    _framed("status-201", status=201),
]
