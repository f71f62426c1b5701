"""Decoding: the quick way and the careful way agree, and what no event may have is named."""

import json
from typing import Any

import pytest

from metering.events.usage import COUNTERS, Usage
from metering.events.wire.decode import Decoded, TooManyEventsError, decode_json, decode_ndjson
from metering.events.wire.events import to_domain
from metering.events.wire.split import InvalidJsonError
from tests.builders.posted import delivered, end, start


def compact(*events: Any) -> bytes:
    return json.dumps(events, separators=(",", ":")).encode()


def rejected(decoded: Decoded) -> list[tuple[int, str, str]]:
    return [(each.index, each.code, each.detail) for each in decoded.rejections]


def test_every_usage_counter_comes_from_the_wire() -> None:
    counts = {name: number for number, name in enumerate(COUNTERS, start=1)}
    ended = end()
    ended["data"]["usage"] = counts
    (event,) = decode_json(compact(ended)).events
    assert to_domain(event).usage == Usage(**counts)  # type: ignore[union-attr]


REPEATED = [
    ('"seq": 1', '"seq": 1, "seq": 1', "seq"),
    ('"seq": 1', '"seq" : 1, "s\\u0065q": 2', "seq"),
    ('"subject": "acme"', '"subject": "acme", "subject": "other"', "subject"),
    ('"subject": "acme"', '"subject": "acme", "extension": {"a": {"k": 1, "k": 2}}', "k"),
    ('"stream_id": "s"', '"stream_id": "s",\n\t"stream_id"\r:\n"s"', "stream_id"),
]


@pytest.mark.parametrize(("once", "twice", "name"), REPEATED)
@pytest.mark.parametrize("form", ["array", "ndjson", "single"])
def test_a_repeated_key_is_found_wherever_and_however_it_is_written(
    once: str, twice: str, name: str, form: str
) -> None:
    bad = json.dumps(delivered()).replace(once, twice)
    assert bad != json.dumps(delivered())
    if form == "single":
        decoded, index = decode_json(bad.encode()), 0
    elif form == "array":
        decoded, index = decode_json(f"[{json.dumps(start())},{bad},{json.dumps(end())}]".encode()), 1
    else:
        bad = bad.replace("\n", " ")
        decoded, index = decode_ndjson(f"{json.dumps(start())}\n{bad}\n{json.dumps(end())}".encode()), 1
    (found,) = rejected(decoded)
    assert found == (index, "duplicate-key", f'"{name}": the key is repeated within one object; send it once')
    assert len(decoded.events) == decoded.count - 1


def test_what_looks_like_a_repeated_key_in_a_text_is_none() -> None:
    tricky = start(tags={"a": '"seq":1,"seq":2', "b": '\\"', "c": "\\"}, request_hash='","seq":"')
    decoded = decode_json(compact(tricky, {**delivered(), "extension": {"seq": 1}}, end()))
    assert (len(decoded.events), list(decoded.rejections)) == (3, [])


def nested(depth: int) -> bytes:
    return b'{"extension":' + b"[" * depth + b'"]["' + b"]" * depth + b"," + compact(delivered())[2:-1]


@pytest.mark.parametrize("depth", [250, 100_000])
def test_an_event_that_is_nested_too_deeply_is_rejected_and_its_neighbours_count(depth: int) -> None:
    batch = b"[" + compact(start())[1:-1] + b" , " + nested(depth) + b"," + compact(end())[1:-1] + b"]\n"
    decoded = decode_json(batch)
    assert rejected(decoded) == [(1, "invalid-json", "nested too deeply")]
    assert len(decoded.events) == 2
    assert decode_json(batch.replace(nested(depth), nested(100))).rejections == ()


def test_a_large_body_that_is_nested_too_deeply_is_refused_at_once() -> None:
    with pytest.raises(InvalidJsonError, match="nested too deeply"):
        decode_json(b"[" + nested(200_000) + b"]")


@pytest.mark.parametrize("cut", [1, 5, 50_000])
def test_a_deeply_nested_body_that_breaks_off_is_no_json(cut: int) -> None:
    with pytest.raises(InvalidJsonError):
        decode_json((b"[" + nested(100_000) + b"]")[:-cut])


def test_two_events_on_one_line_are_not_ndjson() -> None:
    line = compact(start(), delivered())[1:-1]
    decoded = decode_ndjson(line + b"\n" + compact(end())[1:-1])
    assert [code for _, code, _ in rejected(decoded)] == ["invalid-json"]
    assert len(decoded.events) == 1


def test_lines_that_only_together_are_an_array_are_no_events() -> None:
    whole = compact(start())[1:-1]
    decoded = decode_ndjson(whole[:20] + b"\n" + whole[20:])
    assert [code for _, code, _ in rejected(decoded)] == ["invalid-json"] * 2


@pytest.mark.parametrize("decode", [decode_json, lambda body: decode_ndjson(body[1:-1].replace(b"},{", b"}\n{"))])
def test_the_bound_on_events_holds_for_good_and_bad_ones(decode: Any) -> None:
    assert len(decode(compact(*[delivered()] * 10_000)).events) == 10_000
    for events in ([delivered()] * 10_001, [{"bad": 1}] * 10_001):
        with pytest.raises(TooManyEventsError):
            decode(compact(*events))
