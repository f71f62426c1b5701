"""The body of a request: inflate it within limits, and check its media type."""

import zlib

import zstandard

from metering.core.errors import MeteringError
from metering.events.wire.decode import NDJSON

MAX_BODY_BYTES = 8 * 1024 * 1024

_MAX_WINDOW = 1 << 27
# A body may be joined from parts that were compressed apart. Each one costs as much as a thousand bytes.
_MAX_PARTS = 100
_CHUNK = 64 * 1024

_JSON_TYPES = frozenset(
    {"", "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"}
)


class BodyTooLargeError(MeteringError):
    """The body has more bytes than the contract allows, as sent or inflated."""

    def __init__(self) -> None:
        super().__init__("the body has more than 8 MiB, as sent or inflated: send fewer events at a time")


class BrokenBodyError(MeteringError):
    """The body does not have the format of its Content-Encoding."""


class UnsupportedBodyError(MeteringError):
    """The media type or encoding is not supported."""


def is_longer(declared: str | None, most: int) -> bool:
    """Whether a Content-Length is more than `most` bytes. Python reads no number with thousands of digits.

    >>> is_longer("12", 8), is_longer("0" * 9_999 + "5", 8), is_longer("9" * 9_999, 8), is_longer(None, 8)
    (True, False, True, False)
    """
    if declared is None or not declared.isdecimal():
        return False
    digits = declared.lstrip("0") or "0"
    return len(digits) > len(str(most)) or int(digits) > most


def inflate(body: bytes, *, encoding: str) -> bytes:
    """The body without its Content-Encoding: gzip, deflate, zstd, or none.

    Raises:
        UnsupportedBodyError: it has another encoding.
        BrokenBodyError: it cannot be inflated.
        BodyTooLargeError: it inflates to more than 8 MiB.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            return _gunzip(body)
        case "deflate":
            return _undeflate(body)
        case "zstd":
            return _unzstd(body)
    raise UnsupportedBodyError(f"Content-Encoding: {encoding!r} is not supported, use gzip, deflate or zstd")


def media_type_of(content_type: str, *, also: frozenset[str] = frozenset()) -> str:
    """The media type without its parameters; `""` if none is given. A path may take others, `also`.

    Raises:
        UnsupportedBodyError: events cannot have this media type, or the charset is not UTF-8.
    """
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    if media_type != NDJSON and media_type not in _JSON_TYPES and media_type not in also:
        allowed = ", ".join(sorted({*_JSON_TYPES - {""}, *also, NDJSON}))
        raise UnsupportedBodyError(f"Content-Type: {media_type!r} is not supported, use one of {allowed}")
    charset = parameters.lower().partition("charset=")[2].split(";")[0].strip().strip('"')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise UnsupportedBodyError(f"Content-Type: charset {charset!r} is not supported, use utf-8")
    return media_type


def _gunzip(body: bytes) -> bytes:
    inflated: list[bytes] = []
    room = MAX_BODY_BYTES + 1
    inflater, parts = zlib.decompressobj(wbits=31), 1
    # In chunks, because zlib copies what follows a member.
    for begin in range(0, len(body), _CHUNK):
        chunk = body[begin : begin + _CHUNK]
        while chunk:
            if inflater.eof:  # a gzip file may have several members
                inflater, parts = zlib.decompressobj(wbits=31), parts + 1
                if parts > _MAX_PARTS:
                    raise BrokenBodyError(f"Content-Encoding gzip: send at most {_MAX_PARTS} members")
            try:
                inflated.append(inflater.decompress(chunk, room))
            except zlib.error as error:
                raise BrokenBodyError(f"Content-Encoding gzip, but the body is not gzip: {error}") from error
            room -= len(inflated[-1])
            if room <= 0:
                raise BodyTooLargeError
            chunk = inflater.unused_data
    if body and not inflater.eof:
        raise BrokenBodyError("Content-Encoding gzip, but the body is truncated")
    return b"".join(inflated)


def _undeflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS if _has_zlib_header(body) else -zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise BrokenBodyError(f"Content-Encoding deflate, but the body is not deflate: {error}") from error
    if len(inflated) > MAX_BODY_BYTES:
        raise BodyTooLargeError
    if body and not inflater.eof:
        raise BrokenBodyError("Content-Encoding deflate, but the body is truncated")
    if inflater.unused_data:
        raise BrokenBodyError("Content-Encoding deflate: bytes follow the end of the compressed body")
    return inflated


def _has_zlib_header(body: bytes) -> bool:
    """Whether it is zlib's format, which HTTP calls deflate. Some senders send the raw data under that name.

    Raw data cannot look so: its first byte would begin a stored block whose padding is not zero.
    """
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0


def _unzstd(body: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
            body, read_across_frames=True
        ) as reader:
            inflated = reader.read(MAX_BODY_BYTES + 1)
        if len(inflated) > MAX_BODY_BYTES:
            raise BodyTooLargeError
        if zstandard.frame_content_size(body) != len(inflated):
            _check_complete(body)
    except zstandard.ZstdError as error:
        raise BrokenBodyError(f"Content-Encoding zstd, but the body is not zstd: {error}") from error
    return inflated


def _check_complete(body: bytes) -> None:
    """Detect a truncated body, which the reader does not report. The body is known to inflate within limits."""
    for _ in range(_MAX_PARTS):
        if not body:
            return
        inflater = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()
        inflater.decompress(body)
        if not inflater.eof:
            raise BrokenBodyError("Content-Encoding zstd, but the body is truncated")
        body = inflater.unused_data
    if body:
        raise BrokenBodyError(f"Content-Encoding zstd: send at most {_MAX_PARTS} frames")
