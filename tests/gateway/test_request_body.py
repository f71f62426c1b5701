"""A client's body is read leniently, passed on as it came, and refused if it can be read in two ways."""

import gzip
import json
import zlib

import pytest

from metering.gateway.problems import RefusedError
from metering.gateway.request_body import (
    MAX_BODY_BYTES,
    find_ambiguous_field,
    inflated,
    read_request,
    with_usage_option,
)
from metering.gateway.requests import is_true


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-4o","messages":[{"role":"user","content":"Look: \\ud83c"}]}',
        b'{"model":"gpt-4o","top_p":NaN,"messages":[]}',
        b'\xef\xbb\xbf{"model":"gpt-4o","messages":[]}',
        b'{"model":"gpt-4o","messages":[],"seed":' + b"9" * 5_000 + b"}",
        b'{"model":"gpt-4o","stream":true,"stream_options":{},"note":"\\ud83c"}',
        b"{}",
        b' { "model" : "gpt-4o" } ',
    ],
)
def test_a_body_gets_the_option_and_stays_as_it_was(body: bytes) -> None:
    document = read_request(body)
    changed = with_usage_option(body, document)
    assert read_request(changed)["stream_options"]["include_usage"] is True
    rest = {name: value for name, value in read_request(changed).items() if name != "stream_options"}
    document.pop("stream_options", None)
    assert repr(rest) == repr(document)
    if b"stream_options" not in body:
        assert changed.replace(b'"stream_options":{"include_usage":true},', b"").replace(
            b'"stream_options":{"include_usage":true}', b"") == body  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"[1]", b"7", b"{", b'{"a":}', b"[" * 100_000, b"{'a': 1}"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError, match="not a JSON object"):
        read_request(body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model":"a","Model":"b"}', "Model"),
        (b'{"MODEL":"b"}', "MODEL"),
        (b'{"model":"a","Stream":true}', "Stream"),
        ('{"model":"a","ſtream":true}'.encode(), "ſtream"),
        (b'{"model":"a","Max_Tokens":1}', "Max_Tokens"),
        (b'{"model":"a","model":"b"}', "model"),
        (b'{"model":"a","mod\\u0065l":"b"}', "model"),
        (b'{"stream":true,"model":"a","stream":false}', "stream"),
        (b'{"model":"a","messages":[{"model":"b","model":"c"}]}', None),
        (b'{"model":"a","messages":[{"Model":"b"}],"metadata":{"model":"x"}}', None),
        (b'{"model":"a","messages":"say \\"model\\" and \\"model\\""}', None),
        (b'{"model":"a","Temperature":1}', None),
    ],
)
def test_a_field_that_others_could_read_differently_is_found(body: bytes, field: str | None) -> None:
    assert find_ambiguous_field(body, read_request(body)) == field


def test_a_compressed_body_is_inflated_within_bounds() -> None:
    body = json.dumps({"model": "gpt-4o"}).encode()
    assert inflated(gzip.compress(body), encoding="GZIP") == body
    assert inflated(zlib.compress(body), encoding="deflate") == body
    assert inflated(body, encoding="identity") == body
    for broken, encoding, status in (
        (body, "gzip", 400),
        (gzip.compress(body)[:-9], "gzip", 400),
        (body, "br", 415),
        (gzip.compress(b" " * (MAX_BODY_BYTES + 1)), "gzip", 413),
    ):
        with pytest.raises(RefusedError) as caught:
            inflated(broken, encoding=encoding)
        assert caught.value.problem.status == status


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "true", "True", "t", "yes", "Y", "on"])
def test_what_lenient_upstreams_take_for_true_is_true(value: object) -> None:
    assert is_true(value)


@pytest.mark.parametrize("value", [False, None, 0, 2, "", "false", "off", "please", [], [True], {}])
def test_everything_else_is_not(value: object) -> None:
    assert not is_true(value)
