"""What OpenInference writes down of a request, as JSON in one attribute: its parameters, without the prompt."""

from typing import Any

import msgspec

from metering.translations.otlp.attributes import MAX_NAME, MAX_NOTE
from metering.translations.otlp.names import INVOCATION_PARAMETERS
from metering.translations.otlp.records import Attributes


class Parameters(msgspec.Struct, frozen=True):
    """The parameters of a request, as they were written. Read them by the properties, which check their types."""

    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    service_tier: Any = None

    @property
    def model_name(self) -> str | None:
        return _text(self.model, most=MAX_NAME)

    @property
    def streams(self) -> bool:
        return self.stream is True

    @property
    def limit(self) -> int | None:
        given = (self.max_completion_tokens, self.max_output_tokens, self.max_tokens)
        return next((each for each in given if type(each) is int and 0 <= each < 1 << 53), None)

    @property
    def tier(self) -> str | None:
        return _text(self.service_tier, most=MAX_NOTE)


_decode = msgspec.json.Decoder(Parameters).decode
_NONE = Parameters()


def parameters_of(attributes: Attributes) -> Parameters:
    """The parameters; without any, or if they cannot be read, all are unknown."""
    written = attributes.get(INVOCATION_PARAMETERS)
    if not isinstance(written, str):
        return _NONE
    try:
        return _decode(written)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return _NONE


def _text(value: object, *, most: int) -> str | None:
    return value[:most] or None if isinstance(value, str) else None
