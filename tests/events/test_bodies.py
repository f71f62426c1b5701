"""The journal's stored form: it never changes, and whatever was stored before reads as well."""

import hashlib

import pytest
import zstandard

from metering.events.wire.bodies import DICTIONARY, pack_body, unpack_body

EVENT = (
    b'{"specversion":"1.0","type":"token-delivered","source":"/gateways/eu-1","id":"01J9:t:1","subject":"acme"}'
)


def test_the_words_are_for_ever() -> None:
    # A journal that was written with other words could not be read any more: never change them, add a second set.
    assert (
        hashlib.sha256(DICTIONARY).hexdigest()
        == "fa7492ecb6a65a25f55d8176327187ef44abcf4e74d72a8ce9723b06cfd271e2"
    )


@pytest.mark.parametrize("body", [b"{}", b"[]", EVENT, EVENT * 1000, bytes(range(256)) * 99, DICTIONARY])
def test_what_is_packed_is_unpacked_the_same(body: bytes) -> None:
    assert unpack_body(pack_body(body)) == body


def test_a_body_that_was_packed_by_this_very_code_in_the_past_is_still_read() -> None:
    packed = bytes.fromhex("28b52ffd2069cd000048314a3961636d65227d04008ee4795c240d5c9e00896f0104")
    assert unpack_body(packed) == EVENT


def test_bodies_that_were_compressed_without_the_words_are_read() -> None:
    assert unpack_body(zstandard.ZstdCompressor(level=3).compress(EVENT * 5)) == EVENT * 5


def test_a_single_event_takes_less_than_half() -> None:
    assert len(pack_body(EVENT)) < len(zstandard.ZstdCompressor(level=1).compress(EVENT)) / 2
