"""`POST /v1/traces` and `POST /v1/logs`: OTLP/HTTP, in protobuf and in JSON, as exporters post it."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
from starlette.responses import Response

from metering.api.ingest import Posted, Taken
from metering.api.inlets.doors import refused, taken_of
from metering.events.events import Inlet
from metering.streams.ingest.body import UnsupportedBodyError
from metering.translations.otlp.rules import Rules
from metering.translations.otlp.translate import Payer, translate_logs, translate_traces
from metering.translations.translated import Translated

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_MAX_MESSAGE, _MAX_REASONS = 1_000, 5
_encode = msgspec.json.Encoder().encode


class Translate(Protocol):
    """A translation of a kind of request."""

    def __call__(self, body: bytes, *, is_json: bool, rules: Rules, payer: Payer) -> Translated: ...


@dataclass(frozen=True, slots=True)
class Signal:
    """A kind of request, and the field of its answer that counts what was not billed."""

    translate: Translate
    rejected_field: str


TRACES = Signal(translate_traces, "rejectedSpans")
LOGS = Signal(translate_logs, "rejectedLogRecords")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpDoor:
    """`POST /v1/traces` or `POST /v1/logs`."""

    signal: Signal
    rules: Rules

    def media_type(self, content_type: str) -> str:
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type not in (PROTOBUF, JSON):
            raise UnsupportedBodyError(
                f"Content-Type: {media_type!r} is not supported, use one of {JSON}, {PROTOBUF}"
            )
        return media_type

    def decode(self, posted: Posted) -> Taken:
        translated = self.signal.translate(
            posted.body,
            is_json=posted.media_type == JSON,
            rules=self.rules,
            payer=Payer(customer_id=posted.key.customer_id, source=posted.key.source),
        )
        return replace(taken_of(translated, inlet=Inlet.OTLP), answer_type=posted.media_type)

    def answer(self, taken: Taken) -> Response:
        """The response message of the protocol, with a partial success if something was left out."""
        reasons = refused(taken)
        rejected, message = len({each.index for each in reasons}), _message([each.detail for each in reasons])
        if taken.answer_type == JSON:
            partial = {self.signal.rejected_field: str(rejected), "errorMessage": message}
            return Response(_encode({"partialSuccess": partial} if rejected else {}), media_type=JSON)
        return Response(_protobuf(rejected, message) if rejected else b"", media_type=PROTOBUF)


def _message(reasons: list[str]) -> str:
    """The most frequent reasons, each with how often it is given."""
    counted = Counter(reasons).most_common()
    shown = "; ".join(
        f"{reason} ({count} times)" if count > 1 else reason for reason, count in counted[:_MAX_REASONS]
    )
    more = f"; and {len(counted) - _MAX_REASONS} other reasons" if len(counted) > _MAX_REASONS else ""
    return shown[:_MAX_MESSAGE] + more


def _protobuf(rejected: int, message: str) -> bytes:
    """An Export…ServiceResponse: its field 1 is the partial success, in which 1 is the count and 2 the message."""
    text = message.encode()
    partial = b"\x08" + _varint(rejected) + b"\x12" + _varint(len(text)) + text
    return b"\x0a" + _varint(len(partial)) + partial


def _varint(number: int) -> bytes:
    """
    >>> _varint(300)
    b'\\xac\\x02'
    """
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
