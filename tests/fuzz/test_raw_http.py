"""Bytes that are not HTTP: an error or nothing comes back, the connection is closed, and nothing fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.posted import delivered
from tests.fuzz.wire import examples, exchange, nothing_fails
from tests.running_api import Api, http_client

_HOST, _TE = b"host: x\r\n", b"transfer-encoding: "
_EVENT = repr(delivered()).replace("'", '"').encode()
_TARGETS = [
    *(b"/livez", b"/v1/events", b"/v1/charges", b"/v1/customers/acme"),
    *(b"/dashboard/sign-in", b"/v1/stripe/webhook"),
]


def _post(target: bytes, more: bytes, body: bytes) -> bytes:
    return b"POST " + target + b" HTTP/1.1\r\n" + _HOST + more + b"\r\n" + body


NOT_HTTP = {
    "nothing but line ends": b"\r\n\r\n" * 4 + b"x",
    "garbage": b"\x00\xff\xfe" * 50,
    "a TLS greeting": bytes.fromhex("16030100c8010000c40303"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown version": b"GET /livez HTTP/9.9\r\n" + _HOST + b"\r\n",
    "an unknown method": b"BREW /livez HTTP/1.1\r\n" + _HOST + b"\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\n" + _HOST + b"\r\n",
    "no path": b"GET ?a HTTP/1.1\r\n" + _HOST + b"\r\n",
    "a broken address": b"GET http://[::1/livez HTTP/1.1\r\n" + _HOST + b"\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\n" + _HOST + b"\r\n",
    "a header without a colon": b"GET /livez HTTP/1.1\r\nhost x\r\n\r\n",
    "a folded header": b"GET /livez HTTP/1.1\r\na: b\r\n c\r\n\r\n",
    "NUL in a header": b"GET /livez HTTP/1.1\r\na: b\x00c\r\n\r\n",
    "lone line feeds": b"GET /livez HTTP/1.1\nhost: x\n\n",
    "a long path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET /livez HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % each for each in range(500)) + b"\r\n",
    **{
        f"content-length {length!r} to {target!r}": _post(target, b"content-length: " + length + b"\r\n", b"hello")
        for target in (b"/v1/events", b"/v1/customers/acme")
        for length in (b"-5", b"+5", b"five", b"5, 6", b"9" * 30, b"5\r\ncontent-length: 6")
    },
    **{
        f"transfer-encoding {encoding!r}": _post(b"/v1/events", _TE + encoding + b"\r\n", b"5\r\nhello")
        for encoding in (
            b"foo",
            b"chunked, gzip",
            b"chunked\r\n" + _TE + b"chunked",
            b"chunked\r\ncontent-length: 5",
        )
    },
    **{
        f"chunks {chunks!r} to {target!r}": _post(target, _TE + b"chunked\r\n", chunks)
        for target in _TARGETS
        for chunks in (
            b"zz\r\nhello\r\n0\r\n\r\n",
            b"f" * 18 + b"\r\nhello",
            b"-1\r\nhello\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
        )
    },
}


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_is_not_http_is_refused_and_the_connection_closed(shared_api: Api, name: str) -> None:
    with nothing_fails():
        answer = exchange(shared_api.url, NOT_HTTP[name])
    for line in answer.split(b"\r\n"):
        assert not line.startswith(b"HTTP/1.1 ") or line[9:10] == b"4", answer
    assert shared_api.client.get("/livez").status_code == 200


_KEY = b"authorization: Bearer KEY\r\n"
_FORM = b"content-type: application/x-www-form-urlencoded\r\n"
_GOOD = [
    b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /v1/charges HTTP/1.1\r\nhost: x\r\n" + _KEY + b"\r\n",
    b"GET /dashboard/ HTTP/1.1\r\nhost: x\r\ncookie: metering=x\r\n\r\n",
    _post(b"/v1/events", _KEY + b"content-length: %d\r\n" % len(_EVENT), _EVENT),
    _post(b"/v1/events", _KEY + _TE + b"chunked\r\n", b"%x\r\n" % len(_EVENT) + _EVENT + b"\r\n0\r\n\r\n"),
    _post(b"/dashboard/sign-in", _FORM + b"content-length: 5\r\n", b"key=x"),
]
_PIECES = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"\xff", b"%", b"0\r\n\r\n", b"HTTP/1.1"),
        *(b"9" * 40, b"a" * 9_000),
    ]
)


@st.composite
def _pipelined(draw: st.DrawFn) -> bytes:
    """Some requests after each other, with a part cut out, doubled or replaced."""
    sent = b"".join(draw(st.lists(st.sampled_from(_GOOD), min_size=1, max_size=4)))
    first, last = sorted((draw(st.integers(0, len(sent))), draw(st.integers(0, len(sent)))))
    last = min(last, first + draw(st.sampled_from([0, 1, 4, 40, 4_000])))
    part = sent[first:last]
    return sent[:first] + draw(st.one_of(_PIECES, st.just(part * 2), st.binary(max_size=4))) + sent[last:]


@examples(80)
@given(sent=_pipelined())
def test_requests_that_are_nearly_http_are_answered_or_refused(shared_api: Api, sent: bytes) -> None:
    key = shared_api.client.headers["authorization"].removeprefix("Bearer ").encode()
    with nothing_fails():
        answer = exchange(shared_api.url, sent.replace(b"KEY", key), patience=0.2)
    for line in answer.split(b"\r\n"):
        assert not line.startswith(b"HTTP/1.1 5"), (sent, answer)
    with http_client(shared_api.url) as other:
        assert other.get("/livez").status_code == 200
