"""A stream as a context manager: leaving it emits exactly one stream-end, whatever happens inside.

With a hold, entering asks for it first. Without it there is no stream, and no event.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from metering.answers.end_usage import EndUsage
from metering.answers.usage import counters, usage_parts
from metering.emitter.events import MAX_NOTE, Usage, check_count, outcome_of, source_of
from metering.emitter.hold import Hold, HoldRequest
from metering.emitter.holds import Holds
from metering.emitter.meter import Answered, StreamMeter
from metering.emitter.reports import ErrorLog
from metering.emitter.stops import Stops, StopSignal
from metering.events.events import Outcome, StreamStart, UsageEvent
from metering.events.usage import Usage as AnyUsage

log = logging.getLogger(__name__)
_errors = ErrorLog(log)

# A start that is not on disk by then holds up nothing any longer.
_DURABLE_SECONDS = 1.0
# By its name: the emitter needs no web framework.
_CLIENT_GONE = frozenset({"ClientDisconnect", "ClientDisconnected", "ConnectionClosedOK", "WebSocketDisconnect"})

# The error type of streams that end because their budget is exhausted.
BUDGET = "budget"
_TIMEOUTS = ("Timeout", "APITimeout", "ReadTimeout", "ConnectTimeout")


class EmitDurably(Protocol):
    """Emits an event, and calls back once it is on disk."""

    def __call__(self, event: UsageEvent, *, on_spooled: Callable[[], None] | None = None) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The hold that a stream asks for on entering, and where it learns that it has to end.

    `worst_case` asks for the input and `max_output_tokens`, `sliding` for the input and a slice of output, which
    follows what is delivered. Without an event for `lease_seconds`, a hold expires.
    """

    request: HoldRequest
    holds: Holds
    stops: Stops


class MeteredStream:
    """One stream of a gateway, from `Emitter.stream`. Use it with `with`, or with `async with`.

    Inside, tell what the upstream delivers, by one of three: `take` for chunks in OpenAI's or Anthropic's format,
    `text` for pieces of text, or `delivered` for a count of your own. Entering emits the stream-start. Leaving
    ends the stream, unless `end` has: without an error as completed; by cancellation, a closed generator or a
    client that has left as cancelled; by a time-out as timed out; by any other error as failed. Errors pass on.

    With `durable`, `async with` waits a second at most until the start is on disk. With `start_now=False`, nothing
    is emitted before `started()` or the first delivery: a block that ends before has no stream and no hold.

    With a `hold`, entering asks for money first (docs/budgets.md), and raises `HoldRefused` or `HoldUnavailable`.
    Once the budget is exhausted, `stopped` is set, and the function of `on_stop` is called: stop reading, and
    leave. The stream ends as cancelled, with the error type `budget`.
    """

    def __init__(
        self,
        *,
        meter: StreamMeter,
        start: StreamStart,
        emit: EmitDurably,
        durable: bool,
        held: Held | None = None,
        start_now: bool = True,
    ) -> None:
        self._meter = meter
        self._start = start
        self._emit = emit
        self._durable = durable
        self._held = held
        self._start_now = start_now
        self._started = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: list[Callable[[], object]] = []
        self.hold: Hold | None = None
        """The hold, once the block is entered; None without one."""
        self.stopped = StopSignal()
        """Set once the stream has to end: ask `if stream.stopped`, or `await stream.stopped.wait()`."""
        self._answered = Answered()
        self._given: EndUsage | None = None
        self._ended = False

    @property
    def stream_id(self) -> str:
        """The id under which the service knows the stream."""
        return self._start.stream_id

    @property
    def is_finished(self) -> bool:
        """Whether every choice of the answer has a finish reason."""
        return self._meter.is_finished

    @property
    def has_final_usage(self) -> bool:
        """Whether the upstream has reported its output, and no output followed."""
        return self._meter.has_final_usage

    def on_stop(self, call: Callable[[], object]) -> None:
        """Call this function once, when the stream has to end because its budget is exhausted.

        With `async with` it is called on the event loop of the stream; with `with`, on the thread that posts
        events, where it must return at once.
        """
        self._calls.append(call)
        if self.stopped:
            self._call_back()

    def started(self) -> None:
        """The request goes upstream now: emits the stream-start, for a stream with `start_now=False`."""
        if not self._started and not self._ended:
            self._emit(self._begin())

    def take(self, chunk: object) -> None:
        """Count a chunk, or a whole answer, in OpenAI's or Anthropic's format: a mapping, or an object of an SDK.

        Usage, model, response id and finish reasons are taken from it as well.

        Raises:
            TypeError: it is neither.
        """
        self.started()
        self._meter.take(_as_mapping("chunk", chunk))

    def text(self, text: str, *, reasoning: bool = False) -> None:
        """Count a piece of the answer's text. Pieces are joined before they are counted."""
        self.started()
        self._meter.take_text(text, reasoning=reasoning)

    def delivered(self, *, output_tokens: int, reasoning_output_tokens: int = 0) -> None:
        """Tell how many output tokens, reasoning included, were delivered since the start.

        Raises:
            TypeError, ValueError: a count is no whole number from 0 to 2^53 - 1.
        """
        check_count("output_tokens", output_tokens)
        check_count("reasoning_output_tokens", reasoning_output_tokens)
        self.started()
        self._meter.take_count(output_tokens=output_tokens, reasoning_tokens=reasoning_output_tokens)

    def answered_by(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        response_id: str | None = None,
        service_tier: str | None = None,
    ) -> None:
        """Tell who answered, where that is not who was asked; `None` leaves a field as it is."""
        known = self._answered
        self._answered = dataclasses.replace(
            known,
            provider=provider or known.provider,
            model=model or known.model,
            response_id=response_id or known.response_id,
            service_tier=service_tier or known.service_tier,
        )

    def usage(self, usage: object, *, source: str | None = None) -> None:
        """Tell the usage: an upstream's usage object (a mapping, or of an SDK), or `Usage` with our counters.

        An upstream's is joined with what it has reported before, and believed if it fits what was counted. `Usage`
        is taken as it is, with the `source` that you name (`provider`, `gateway_count` or `estimate`).

        Raises:
            TypeError, ValueError: it is neither, or the source is missing or wrong.
        """
        if not isinstance(usage, AnyUsage):
            self._meter.take_usage(_as_mapping("usage", usage))
            return
        if source is None:
            raise ValueError("source: say who counted: provider, gateway_count or estimate")
        self._given = EndUsage(counters=usage.known(), source=source_of(source))

    def end(
        self,
        outcome: str = "completed",
        *,
        usage: object = None,
        source: str | None = None,
        error_type: str | None = None,
        finish_reason: str | None = None,
    ) -> None:
        """End the stream now; what comes later is not counted. Further calls do nothing.

        Raises:
            TypeError, ValueError: the outcome is not completed, cancelled, failed or timed_out, or see `usage`.
        """
        ending = outcome_of(outcome)
        self.started()
        if usage is not None:
            self.usage(usage, source=source)
        if finish_reason is not None:
            self._answered = dataclasses.replace(self._answered, finish_reasons=(finish_reason,))
        self._finish(ending, error_type)

    def __enter__(self) -> Self:
        if self._held is not None:
            self.hold = self._held.holds.take(self._held.request)
            self._watch()
        if self._start_now:
            self.started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome = _outcome_by(error)
        named = kind.__name__[:MAX_NOTE] if kind is not None and outcome is not Outcome.CANCELLED else None
        has_all = error is None and self._meter.is_finished
        if self.stopped and not has_all:
            outcome, named = Outcome.CANCELLED, BUDGET
        self._finish(outcome, named)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if self._held is not None:
            self.hold = await self._held.holds.take_async(self._held.request)
            self._watch()
        if not self._start_now:
            return self
        if not self._durable:
            self.started()
            return self
        try:
            await emit_durably(self._emit, self._begin(), seconds=_DURABLE_SECONDS)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _begin(self) -> StreamStart:
        self._started = True
        if self.hold is not None and self.hold.failed_open:
            self._start = dataclasses.replace(self._start, failed_open=True)
        return self._start

    def _watch(self) -> None:
        if self._held is not None:
            self._held.stops.watch(self.stream_id, self._stop)

    def _stop(self) -> None:
        """Called on the thread that posts events."""
        self.stopped.set()
        if self._loop is None:
            self._call_back()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._call_back)

    def _call_back(self) -> None:
        while self._calls:
            call = self._calls.pop(0)
            try:
                call()
            except Exception as error:  # noqa: BLE001 - it must not end the thread that posts
                _errors.error("on_stop of a stream raised %r", error)

    def _finish(self, outcome: Outcome, error_type: str | None) -> None:
        if self._ended:
            return
        self._ended = True
        held = self._held
        if held is not None:
            held.stops.forget(self.stream_id)
        if not self._started:
            # Nothing went upstream, and the service knows nothing of the stream.
            if held is not None and self.hold is not None and not self.hold.failed_open:
                held.holds.release_later(customer_id=self._start.customer_id, stream_id=self.stream_id)
            return
        # Who leaves after the last token, and its usage, has got everything.
        if outcome is Outcome.CANCELLED and self._meter.is_finished and self._meter.has_final_usage:
            outcome, error_type = Outcome.COMPLETED, None
        self._meter.end(outcome=outcome, error_type=error_type, answered=self._answered, given=self._given)


async def emit_durably(emit: EmitDurably, event: UsageEvent, *, seconds: float) -> bool:
    """Emit an event, and wait until it is on disk; False if that takes longer than `seconds`."""
    written = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(written.set)

    emit(event, on_spooled=note)
    try:
        async with asyncio.timeout(seconds):
            await written.wait()
    except TimeoutError:
        return False
    return True


def usage_of(usage: object, *, provider: str) -> Usage:
    """The usage object of an upstream with our counters: of any vendor we know of, as a mapping or of an SDK.

    What `provider` it is of decides whether reasoning and cache stand within or beside the other counts.

    Raises:
        TypeError: it is neither.
    """
    found = counters(usage_parts({"usage": _as_mapping("usage", usage)}), provider=provider)
    return Usage(**{name: count for name, count in found.items() if name != "upstream_cost_usd"})  # type: ignore[arg-type]


def _outcome_by(error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome.COMPLETED
    if not isinstance(error, Exception):  # CancelledError, GeneratorExit, KeyboardInterrupt
        return Outcome.CANCELLED
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _CLIENT_GONE:
        return Outcome.CANCELLED
    is_timeout = isinstance(error, TimeoutError) or any(name.startswith(_TIMEOUTS) for name in names)
    return Outcome.TIMED_OUT if is_timeout else Outcome.FAILED


def _as_mapping(name: str, value: object) -> dict[str, Any]:
    """The value as a mapping with plain values; SDKs' objects know how to become one."""
    if isinstance(value, Mapping):
        return dict(value)
    for method in ("model_dump", "to_dict", "dict"):
        if callable(made := getattr(value, method, None)) and isinstance(found := made(), Mapping):
            return dict(found)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{name}: expected a mapping or an object of an SDK, got {type(value).__name__}")
