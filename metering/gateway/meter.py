"""The meter of one completion: counts what the upstream delivers, and emits the usage events. It has no network.

"Delivered" is everything that was received from the upstream, also what the client did not read: upstreams do not
refund it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from metering.events.events import Outcome, StreamEnd, StreamStart, TokenDelivered, UsageEvent, UsageSource
from metering.events.usage import Usage
from metering.gateway.chunks import clean, finish_reasons, reported_usage, text_pieces
from metering.gateway.tokens import OutputCount, TokenCounter

_REPORT_TOKENS = 16
_REPORT_SECONDS = 0.25
_CHARACTERS_PER_TOKEN = 4

Emit = Callable[[UsageEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """The facts about a stream that are known at its start."""

    customer_id: str
    stream_id: str
    provider: str
    model: str
    streaming: bool
    input_tokens: int
    input_exact: bool
    max_output_tokens: int | None = None
    api_key_id: str | None = None
    request_hash: str | None = None
    service_tier: str | None = None
    tags: Mapping[str, str]


class StreamMeter:
    """Emits a stream-start, a token-delivered from time to time, and exactly one stream-end."""

    def __init__(self, *, identity: StreamIdentity, counter: TokenCounter, emit: Emit) -> None:
        self._identity = identity
        self._emit = emit
        self._output = OutputCount(counter=counter)
        self._count_source = counter.source if identity.input_exact else UsageSource.ESTIMATE
        self._seq = 0
        self._reported_tokens = 0
        self._pieces = 0
        self._characters = 0
        self._last_report = time.monotonic()
        self._usage: Usage | None = None
        self._usage_is_current = False
        self._finish_reasons: dict[int, str] = {}
        self._response: dict[str, str | None] = {}
        self._ended = False

    @property
    def saw_finish(self) -> bool:
        """Whether the upstream has sent a finish reason."""
        return bool(self._finish_reasons)

    def start(self) -> None:
        """Emit the stream-start; call it before the first byte goes upstream."""
        known = self._identity
        self._emit(
            StreamStart(
                customer_id=known.customer_id,
                stream_id=known.stream_id,
                time=datetime.now(UTC),
                provider=known.provider,
                model=known.model,
                streaming=known.streaming,
                input_tokens=known.input_tokens,
                max_output_tokens=known.max_output_tokens,
                api_key_id=known.api_key_id,
                request_hash=known.request_hash,
                service_tier=known.service_tier,
                tags=known.tags,
            )
        )

    def take(self, document: dict[str, Any], *, delivered: bool = True) -> None:
        """Count a chunk or a whole completion. Output after the client has left is not `delivered`."""
        added = False
        for piece in text_pieces(document):
            added = True
            if delivered:
                self._output.add(lane=piece.lane, text=piece.text)
                self._pieces += 1
                self._characters += len(piece.text)
        usage = reported_usage(document)
        if usage is not None:
            self._usage = usage
        self._usage_is_current = usage is not None or (self._usage_is_current and not added)
        self._finish_reasons.update(finish_reasons(document))
        self._note_response(document)
        if self._report_is_due():
            self._report()

    def end(self, *, outcome: Outcome, error_type: str | None = None) -> None:
        """Emit the stream-end; later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        usage, source = self._final_usage(outcome)
        self._emit(
            StreamEnd(
                customer_id=self._identity.customer_id,
                stream_id=self._identity.stream_id,
                time=datetime.now(UTC),
                outcome=outcome,
                usage=usage,
                usage_source=source,
                finish_reasons=tuple(self._finish_reasons[i] for i in sorted(self._finish_reasons)) or None,
                response_model=self._response.get("model"),
                response_id=self._response.get("id"),
                service_tier=self._response.get("service_tier"),
                error_type=clean(error_type),
            )
        )

    def _final_usage(self, outcome: Outcome) -> tuple[Usage | None, UsageSource | None]:
        """The upstream's own usage, unless more output followed it; else the gateway's counts.

        There is no usage when nothing was delivered or reported: such a stream is not billed.
        """
        if self._usage is not None and (outcome is Outcome.COMPLETED or self._usage_is_current):
            return self._usage, UsageSource.PROVIDER
        output = self._output.tokens()
        if output == 0 and outcome is not Outcome.COMPLETED:
            return None, None
        counted = Usage(input_tokens=self._identity.input_tokens, output_tokens=output)
        if reasoning := self._output.reasoning_tokens():
            counted = replace(counted, reasoning_output_tokens=reasoning)
        return counted, self._count_source

    def _note_response(self, document: dict[str, Any]) -> None:
        for field in ("model", "id", "service_tier"):
            if (value := clean(document.get(field), name=field == "model")) is not None:
                self._response[field] = value

    def _report_is_due(self) -> bool:
        """Guesses the number of tokens since the last report without encoding them, which is cheap."""
        if not self._identity.streaming or not self._pieces:
            return False
        guess = max(self._pieces, self._characters // _CHARACTERS_PER_TOKEN)
        return guess >= _REPORT_TOKENS or time.monotonic() - self._last_report >= _REPORT_SECONDS

    def _report(self) -> None:
        self._pieces = self._characters = 0
        self._last_report = time.monotonic()
        # A piece can merge with the one before it, so that a count falls by one. Reported counts never fall.
        self._reported_tokens = max(self._reported_tokens, self._output.tokens())
        self._seq += 1
        self._emit(
            TokenDelivered(
                customer_id=self._identity.customer_id,
                stream_id=self._identity.stream_id,
                time=datetime.now(UTC),
                seq=self._seq,
                output_tokens=self._reported_tokens,
                reasoning_output_tokens=self._output.reasoning_tokens() or None,
            )
        )
