"""The meter of one stream: counts what the upstream delivers, and emits the usage events. It has no network.

"Delivered" is everything that was received from the upstream, also what the client did not read: upstreams do not
refund it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from metering.answers.end_usage import Counted, EndUsage, end_usage
from metering.answers.formats import CHAT, Format, format_of
from metering.answers.texts import TextPiece, plain_piece
from metering.answers.tokens import OutputCount, TokenCounter
from metering.answers.usage import Parts, counters, join_parts, usage_parts
from metering.answers.words import clean
from metering.emitter.identity import StreamClock, StreamIdentity
from metering.events.events import (
    Outcome,
    StreamEnd,
    StreamStart,
    TokenDelivered,
    UsageEvent,
    UsageSource,
)

_REPORT_TOKENS = 16
_REPORT_SECONDS = 0.25
_CHARACTERS_PER_TOKEN = 4
_BYTES_PER_TOKEN = 4

_OUTPUT_PARTS = ("output", "whole_output", "candidates", "thoughts")
_RESPONSE_FIELDS = ("model", "id", "service_tier", "provider")

Emit = Callable[[UsageEvent], None]


class Output(StrEnum):
    """What a meter gets to see of an answer's output: all of it, some or nothing, or that there is none."""

    READ = "read"
    UNTOLD = "untold"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the caller knows of the answer, beside what the documents say. None: what they say."""

    provider: str | None = None
    model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    finish_reasons: tuple[str, ...] | None = None


class StreamMeter:
    """Emits a stream-start, a token-delivered from time to time, and exactly one stream-end.

    Where it reads all `output`, no output means that there was none. Otherwise it is unknown until it is reported.
    """

    def __init__(
        self, *, identity: StreamIdentity, counter: TokenCounter, emit: Emit, output: Output = Output.READ
    ) -> None:
        self._kind = output
        self._has_read = output is not Output.UNTOLD
        self._identity = identity
        self._emit = emit
        self._clock = StreamClock(began=datetime.now(UTC), elapsed=time.monotonic)
        self._output = OutputCount(counter=counter)
        self._count_source = counter.source if identity.input_exact else UsageSource.ESTIMATE
        self._seq = 0
        self._reported_tokens = 0
        self._pieces = 0
        self._characters = 0
        # The output and reasoning tokens of which the caller says that they were delivered so far.
        self._told: tuple[int, int] | None = None
        self._last_report = time.monotonic()
        self._usage: Parts = {}
        self._usage_is_current = False
        self._unreadable_bytes = 0
        self._has_audio = False
        self._choices: dict[int, str | None] = {}
        self._choices_with_deltas: set[int] = set()
        self._response: dict[str, str] = {}
        self._shown: tuple[object, ...] = ()
        self._ended = False

    @property
    def is_finished(self) -> bool:
        """Whether every choice of the answer has a finish reason."""
        return len(self._choices) >= self._identity.choices and None not in self._choices.values()

    @property
    def has_final_usage(self) -> bool:
        """Whether the upstream has reported its output, and no output followed."""
        return self._usage_is_current

    def make_start(self) -> StreamStart:
        """The stream-start, to be emitted before the first byte goes upstream."""
        known = self._identity
        return StreamStart(
            customer_id=known.customer_id,
            stream_id=known.stream_id,
            time=self._clock.now(),
            provider=known.provider,
            model=known.model,
            streaming=known.streaming,
            operation=known.operation,
            input_tokens=known.input_tokens,
            max_output_tokens=known.max_output_tokens,
            api_key_id=known.api_key_id,
            request_hash=known.request_hash,
            service_tier=known.service_tier,
            tags=known.tags,
            inlet=known.inlet,
        )

    def take(self, document: dict[str, Any], *, delivered: bool = True) -> None:
        """Count a chunk or a whole completion. Output after the client has left is not `delivered`."""
        plain = plain_piece(document)
        if plain is None:
            form = format_of(document)
            self._take_any(document, form, delivered=delivered)
        else:
            form = CHAT
            index = plain.choice
            if index not in self._choices_with_deltas:
                self._choices_with_deltas.add(index)
                self._choices.setdefault(index, None)
            self._usage_is_current = False
            if delivered:
                self._add((plain,))
        self._note_response(form.about(document))
        if self._pieces and self._report_is_due():
            self._report()

    def _take_any(self, document: dict[str, Any], form: Format, *, delivered: bool) -> None:
        pieces = self._pieces_of(document, form)
        if pieces and delivered:
            self._add(pieces)
        if form is not CHAT or document.get("choices"):
            self._note_choices(document, form)
        usage = usage_parts(document)
        if usage:
            self._usage = join_parts(self._usage, usage)
            has_output = any(usage.get(name) for name in _OUTPUT_PARTS)
            self._usage_is_current = has_output or (self._usage_is_current and not pieces)
        elif pieces:
            self._usage_is_current = False

    def _add(self, pieces: Sequence[TextPiece]) -> None:
        self._has_read = True
        for piece in pieces:
            self._output.add(lane=piece.lane, text=piece.text)
            self._characters += len(piece.text)
        self._pieces += len(pieces)

    def take_text(self, text: str, *, reasoning: bool = False) -> None:
        """Count a piece of the answer's text, or of its reasoning. Pieces are joined before they are counted."""
        self._add((TextPiece((reasoning, 0, "reasoning" if reasoning else "content"), text),))
        self._usage_is_current = False
        if self._report_is_due():
            self._report()

    def take_count(self, *, output_tokens: int, reasoning_tokens: int) -> None:
        """Take the caller's count of what was delivered so far, in place of a count of texts."""
        before = self._told
        self._told = (output_tokens, reasoning_tokens)
        self._usage_is_current = False
        self._pieces += 1
        self._characters += _CHARACTERS_PER_TOKEN * (output_tokens - (before[0] if before is not None else 0))
        if self._report_is_due():
            self._report()

    def take_usage(self, usage: Mapping[str, Any]) -> None:
        """Join the usage object of an upstream, which has all output so far."""
        self._usage = join_parts(self._usage, usage_parts({"usage": usage}))
        self._usage_is_current = True

    def take_unreadable(self, size: int, *, delivered: bool = True) -> None:
        """Estimate output that cannot be read, of `size` bytes."""
        if delivered:
            self._has_read = True
            self._unreadable_bytes += size
            self._pieces += 1
            self._characters += size

    def end(
        self,
        *,
        outcome: Outcome,
        error_type: str | None = None,
        answered: Answered = Answered(),
        given: EndUsage | None = None,
    ) -> EndUsage | None:
        """Emit the stream-end, and return its usage; later calls do nothing.

        Its usage is the `given` one, or else what was reported and counted.
        """
        if self._ended:
            return None
        self._ended = True
        usage = given or end_usage(
            reported=counters(self._usage, provider=self._identity.provider),
            is_current=self._usage_is_current,
            counted=self._counted(),
            completed=outcome is Outcome.COMPLETED,
        )
        reasons = tuple(reason for _, reason in sorted(self._choices.items()) if reason is not None)
        said = self._response
        self._emit(
            StreamEnd(
                customer_id=self._identity.customer_id,
                stream_id=self._identity.stream_id,
                time=self._clock.now(),
                outcome=outcome,
                usage=usage.as_usage(),
                usage_source=usage.source,
                finish_reasons=answered.finish_reasons or reasons or None,
                response_provider=answered.provider or said.get("provider"),
                response_model=answered.model or said.get("model"),
                response_id=answered.response_id or said.get("id"),
                service_tier=answered.service_tier or said.get("usage_tier") or said.get("service_tier"),
                error_type=clean(error_type),
                upstream_cost_usd=usage.upstream_cost_usd,
                inlet=self._identity.inlet,
            )
        )
        return usage

    def _counted(self) -> Counted:
        output, reasoning = self._delivered()
        is_estimate = bool(self._unreadable_bytes) or self._has_audio
        return Counted(
            input_tokens=self._identity.input_tokens,
            output_tokens=output if self._has_read or self._told is not None else None,
            reasoning_tokens=reasoning,
            source=UsageSource.ESTIMATE if is_estimate else self._count_source,
            has_unreadable=is_estimate,
            no_output=self._kind is Output.NONE,
            input_characters=self._identity.input_characters,
        )

    def _delivered(self) -> tuple[int, int]:
        """The output tokens so far, and those of reasoning among them."""
        if self._told is not None:
            return self._told
        output, reasoning = self._output.counts()
        return output - (-self._unreadable_bytes // _BYTES_PER_TOKEN), reasoning

    def _pieces_of(self, document: dict[str, Any], form: Format) -> list[TextPiece]:
        """The output in a document. A message that repeats its deltas at the end is no output again."""
        pieces = form.deltas(document)
        if pieces:
            self._choices_with_deltas.update(piece.choice for piece in pieces)
        whole = form.texts(document)
        if whole:
            pieces = pieces + [piece for piece in whole if piece.choice not in self._choices_with_deltas]
        return pieces

    def _note_response(self, about: Mapping[str, Any]) -> None:
        shown = (about.get("id"), about.get("model"), about.get("service_tier"), about.get("usage"))
        if shown == self._shown:
            return
        self._shown = shown
        for field in _RESPONSE_FIELDS:
            value = about.get(field)
            if value and value != self._response.get(field) and (text := clean(value, name=field != "id")):
                self._response[field] = text
        usage = about.get("usage")
        if isinstance(usage, dict) and (tier := clean(usage.get("service_tier"))):
            self._response["usage_tier"] = tier

    def _note_choices(self, document: dict[str, Any], form: Format) -> None:
        for index, reason in form.reasons(document).items():
            self._choices[index] = clean(reason) or self._choices.get(index)
        if not self._has_audio:
            self._has_audio = form.has_audio(document)

    def _report_is_due(self) -> bool:
        """Guesses the number of tokens since the last report without encoding them, which is cheap."""
        if not self._identity.streaming:
            return False
        if self._pieces >= _REPORT_TOKENS or self._characters >= _REPORT_TOKENS * _CHARACTERS_PER_TOKEN:
            return True
        return time.monotonic() - self._last_report >= _REPORT_SECONDS

    def _report(self) -> None:
        self._pieces = self._characters = 0
        self._last_report = time.monotonic()
        # A piece can merge with the one before it, so that a count falls by one. Reported counts never fall.
        output, reasoning = self._delivered()
        self._reported_tokens = max(self._reported_tokens, output)
        self._seq += 1
        self._emit(
            TokenDelivered(
                customer_id=self._identity.customer_id,
                stream_id=self._identity.stream_id,
                time=self._clock.now(),
                seq=self._seq,
                output_tokens=self._reported_tokens,
                reasoning_output_tokens=reasoning or None,
            )
        )
