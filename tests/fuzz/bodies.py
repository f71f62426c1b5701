"""Strategies of bodies for `POST /v1/events`: valid ones, nearly valid ones, and bytes that are neither."""

import gzip
import json
import zlib
from collections.abc import Callable

import zstandard
from hypothesis import strategies as st

from tests.builders.posted import delivered, end, start

_ODD_VALUES = [
    *(b"null", b"true", b'""', b"[]", b"{}", b"-1", b"1.5", b"4e1", b"1e300", b"1e999", b"-0", b"NaN"),
    *(b"9" * 30, b"9" * 5_000, b"1." + b"0" * 5_000, b"-Infinity"),
    *(b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b'"' + b"x" * 1_000 + b'"', b'"."', b'".."'),
    *(b"[" * 150 + b"]" * 150, b"[" * 3_000 + b"]" * 3_000, b'{"a":' * 900 + b"1" + b"}" * 900),
    *(b'"1969-12-31T23:59:59Z"', b'"9999-12-31T23:59:59-14:00"', b'"2026-06-30T23:59:60.9999999Z"'),
]
_WHOLE = [
    b"",
    b" ",
    b"\x00",
    b"\n\n",
    b"null",
    b"[]",
    b"{}",
    b"[null]",
    b'"a"',
    b"[" * 50_000,
    b"NaN",
    b"\xef\xbb\xbf[]",
]


def _event_of(stream: str, kind: int) -> dict[str, object]:
    return (start(stream), delivered(stream), end(stream))[kind]


EVENTS = st.lists(
    st.builds(_event_of, st.sampled_from(["a", "b", "ä/%2F?#", "x" * 128]), st.integers(0, 2)),
    min_size=1,
    max_size=4,
)


def _written(events: list[dict[str, object]], form: str) -> bytes:
    if form == "lines":
        return b"\n".join(json.dumps(each).encode() for each in events)
    return json.dumps(events if form == "array" else events[0], ensure_ascii=form == "one").encode()


VALID = st.builds(_written, EVENTS, st.sampled_from(["array", "array", "one", "lines"]))


@st.composite
def _with_odd_value(draw: st.DrawFn) -> bytes:
    """A body in which the value of one member is another one."""
    body = draw(VALID)
    ends = [place for place in range(len(body)) if body[place : place + 3] == b'": ']
    place = draw(st.sampled_from(ends)) + 3
    value = json.JSONDecoder().raw_decode(body[place:].decode(errors="ignore"))[0]
    length = len(json.dumps(value).encode())
    return body[:place] + draw(st.sampled_from(_ODD_VALUES)) + body[place + length :]


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A body with a part cut out, doubled, or replaced by other bytes."""
    body = draw(VALID)
    first, last = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
    part = body[first:last]
    instead = draw(st.one_of(st.just(b""), st.just(part * 2), st.binary(max_size=8), st.sampled_from(_ODD_VALUES)))
    return body[:first] + instead + body[last:]


def _in_another_encoding(text: bytes, encoding: str) -> bytes:
    return text.decode(errors="replace").encode(encoding, errors="replace")


BODIES = st.one_of(
    VALID,
    _with_odd_value(),
    _with_odd_value(),
    _damaged(),
    st.sampled_from(_WHOLE),
    st.binary(max_size=64),
    st.builds(
        _in_another_encoding, VALID, st.sampled_from(["utf-16", "utf-8-sig", "utf-32-le", "latin-1", "cp1252"])
    ),
)

_BOMB = b" " * (9 * 1024 * 1024)
_PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, zstandard.compress, zlib.compress, bytes]
_BOMBS = [
    *(gzip.compress(_BOMB), zstandard.compress(_BOMB)),
    *(gzip.compress(b"[]") * 200, zstandard.compress(b"") * 200),
]
_CUTS = st.sampled_from([0, 0, 0, 1, 5, 20])
_TAILS = st.sampled_from([b"", b"", b"\x00", b"\x1f\x8b"])


def _packed(body: bytes, pack: Callable[[bytes], bytes], cut: int, tail: bytes) -> bytes:
    packed = pack(body)
    return packed[: len(packed) - cut] + tail


PACKED = st.one_of(
    st.builds(_packed, BODIES, st.sampled_from(_PACKERS), _CUTS, _TAILS),
    st.sampled_from(_BOMBS),
)
ENCODINGS = st.sampled_from(
    [b"gzip", b"gzip", b"zstd", b"zstd", b"deflate", b"br", b"", b"gzip, gzip", b"GZIP", b"\xff", b"identity"]
)
_JSON, _LINES = b"application/json", b"application/x-ndjson"
TYPES = st.sampled_from(
    [
        *(_JSON, _JSON, _JSON, _LINES, b"application/cloudevents+json", b"", b"text/plain", b"*/*", b"a" * 5_000),
        *(b"application/json; charset=utf-16", b'application/json; charset="utf-8"; a=b', b"application/json;;="),
        b"\xff\xfe",
    ]
)
