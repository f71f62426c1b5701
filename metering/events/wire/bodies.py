"""How the journal stores a body: compressed by zstd with a dictionary of typical events.

The dictionary halves the stored size of a single event and saves a tenth for a batch of a hundred. It is a part of
the stored format: a body can only be read with the same dictionary, so it must never change. Bodies that were
compressed without a dictionary can be read as well.
"""

import threading

import zstandard

DICTIONARY = (
    b'{"specversion":"1.0","type":"token-delivered","source":"/gateways/eu-1","id":"0:t:1","subject":"customer",'
    b'"time":"2026-11-23T15:00:00.123Z","datacontenttype":"application/json","data":{"stream_id":"0","seq":1,'
    b'"output_tokens":20,"reasoning_output_tokens":0}},'
    b'{"specversion":"1.0","type":"stream-end","source":"/gateways/eu-1","id":"0:end","subject":"customer",'
    b'"time":"2026-11-23T15:00:00.123Z","datacontenttype":"application/json","data":{"stream_id":"0",'
    b'"outcome":"completed","usage":{"input_tokens":1,"output_tokens":1,"cache_read_input_tokens":1,'
    b'"cache_write_input_tokens":0,"reasoning_output_tokens":0},"usage_source":"provider","finish_reasons":["stop"],'
    b'"response_model":"gpt-5.2","response_id":"resp_","service_tier":"default","error_type":null}},'
    b'{"specversion":"1.0","type":"stream-start","source":"/gateways/eu-1","id":"0:start","subject":"customer",'
    b'"time":"2026-11-23T15:00:00.123Z","datacontenttype":"application/json","data":{"stream_id":"0",'
    b'"provider":"openai","model":"claude-opus-4.7","streaming":true,"operation":"chat","input_tokens":1,'
    b'"max_output_tokens":4096,"api_key_id":"key_","request_hash":"","service_tier":"default","tags":{"team":""}}},'
)

_dictionary = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
_dictionary.precompute_compress(level=1)
# Level 1 compresses event batches nearly as well as higher levels, in a fraction of the time.
_LEVEL = 1


class _OfThread(threading.local):
    """zstd's contexts, which two threads must not use at the same time."""

    def __init__(self) -> None:
        raw = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_dictionary)
        self.decompressor = zstandard.ZstdDecompressor(dict_data=raw)


_own = _OfThread()


def pack_body(body: bytes) -> bytes:
    """Compress a body for the journal."""
    return _own.compressor.compress(body)


def unpack_body(packed: bytes) -> bytes:
    """Restore a body of the journal.

    Raises:
        zstandard.ZstdError: the stored body is corrupt.
    """
    return _own.decompressor.decompress(packed)
