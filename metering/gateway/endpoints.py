"""The endpoints that the gateway serves, and in what they differ."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from metering.emitter.meter import Output


class Vendor(StrEnum):
    """Whose SDKs call an endpoint: decides the form of errors, and the header of keys."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Body(StrEnum):
    """The form of a request's body."""

    JSON = "json"
    FORM = "form"


class PriceKnown(StrEnum):
    """What decides the price of a request, which a hold has to know before the answer."""

    BY_OUTPUT = "by_output"
    BY_INPUT = "by_input"
    AFTERWARDS = "afterwards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A path below `/v1`, and below an upstream's `base_url`.

    `operation` is that of the stream-start. `usage_option`: streamed requests may ask for usage with
    `stream_options`. `output`: what can be read of the answer's output tokens. `any_answer`: an answer need not be
    JSON or events. `speaks`: the input is text to be spoken, and its characters are counted. `price_known`: what
    prices a hold.
    """

    path: str
    operation: str
    vendor: Vendor = Vendor.OPENAI
    body: Body = Body.JSON
    usage_option: bool = False
    output: Output = Output.READ
    any_answer: bool = False
    speaks: bool = False
    price_known: PriceKnown = PriceKnown.BY_OUTPUT


_AFTERWARDS: dict[str, Any] = {"output": Output.UNTOLD, "price_known": PriceKnown.AFTERWARDS}
_ANYTHING: dict[str, Any] = {**_AFTERWARDS, "any_answer": True}
ENDPOINTS = (
    Endpoint(path="/chat/completions", operation="chat", usage_option=True),
    Endpoint(path="/completions", operation="text_completion", usage_option=True),
    Endpoint(path="/responses", operation="responses"),
    Endpoint(path="/messages", operation="messages", vendor=Vendor.ANTHROPIC),
    Endpoint(path="/embeddings", operation="embeddings", output=Output.NONE, price_known=PriceKnown.BY_INPUT),
    Endpoint(path="/images/generations", operation="image_generation", **_AFTERWARDS),
    Endpoint(path="/images/edits", operation="image_edit", body=Body.FORM, **_AFTERWARDS),
    Endpoint(path="/audio/speech", operation="speech", speaks=True, **_ANYTHING),
    Endpoint(path="/audio/transcriptions", operation="transcription", body=Body.FORM, **_ANYTHING),
    Endpoint(path="/audio/translations", operation="translation", body=Body.FORM, **_ANYTHING),
)
SERVED = ", ".join(f"POST /v1{endpoint.path}" for endpoint in ENDPOINTS)
