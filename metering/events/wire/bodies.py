"""How the journal keeps a body: zstd, primed with the words that every event is made of.

The words halve what a single event takes on disk and save a tenth of a batch of a hundred. They are a part of the
stored format: a journal can only be read with the very same ones, so they are never changed. A body that was
compressed without them reads as well.
"""

import zstandard

WORDS = (
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

_words = zstandard.ZstdCompressionDict(WORDS, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
_words.precompute_compress(level=1)
# Level 1 packs event batches nearly as well as the higher levels at a fraction of their time.
_compressor = zstandard.ZstdCompressor(level=1, dict_data=_words)
_decompressor = zstandard.ZstdDecompressor(
    dict_data=zstandard.ZstdCompressionDict(WORDS, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
)


def pack_body(body: bytes) -> bytes:
    """A body as the journal keeps it."""
    return _compressor.compress(body)


def unpack_body(packed: bytes) -> bytes:
    """The body that was packed."""
    return _decompressor.decompress(packed)
