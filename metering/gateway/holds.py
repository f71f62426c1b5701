"""Holds of completions: money is set aside before the upstream is asked; without it, the client gets an error."""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from metering.emitter import Emitter, Hold, HoldRefused, HoldRequest, HoldUnavailable, PriceUnknown
from metering.emitter.events import MAX_COUNT
from metering.emitter.hold import HoldMode
from metering.emitter.reports import ErrorLog
from metering.events.events import StreamStart
from metering.gateway.endpoints import PriceKnown
from metering.gateway.hold_settings import GatewayHolds
from metering.gateway.metrics import Metrics
from metering.gateway.problems import Problem
from metering.gateway.requests import CompletionRequest

_PLACES = Decimal("0.0001")
_CODE = "budget_exhausted"
_TYPE = "insufficient_quota"

STOPPED = Problem(
    status=402,
    message="The budget is exhausted: this answer was cut off. What was delivered so far is billed.",
    type=_TYPE,
    code=_CODE,
    details={},
)


class NoHoldError(Exception):
    """The request must not go upstream; `problem` is what the client gets."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Holds:
    """Asks for the holds of one worker's completions."""

    def __init__(self, *, settings: GatewayHolds, emitter: Emitter, metrics: Metrics, errors: ErrorLog) -> None:
        self._settings = settings
        self._emitter = emitter
        self._metrics = metrics
        self._errors = errors

    async def take(self, request: CompletionRequest, start: StreamStart, *, on_stop: Callable[[], None]) -> Hold:
        """The hold of a completion that is about to start.

        `on_stop` is called, on another thread, when the completion has to end.

        Raises:
            NoHoldError: it must not start.
        """
        asked = hold_request(request, start, self._settings)
        try:
            hold = await self._emitter.hold_async(asked)
        except PriceUnknown as error:
            self._metrics.problem("price_unknown")
            self._errors.error("a request is refused, because its price is not known: %s", error)
            raise NoHoldError(_price_unknown(request)) from error
        except HoldRefused as error:
            if error.code != _CODE:
                self._errors.error("a hold is refused: %s: %s", error.code, error)
            raise NoHoldError(_refused(error, request)) from error
        except HoldUnavailable as error:
            self._metrics.problem("holds")
            raise NoHoldError(_UNAVAILABLE) from error
        if asked.mode == "sliding":
            self._emitter.on_stop(start.stream_id, on_stop)
        return hold


def hold_request(request: CompletionRequest, start: StreamStart, settings: GatewayHolds) -> HoldRequest:
    """What is asked for.

    The worst case of a request without a limit of its own is not known: it gets a slice. An answer in one piece
    cannot be cut, so that it gets its worst case also where others are sliding.
    """
    input_tokens, most = start.input_tokens, _most_output(request)
    mode: HoldMode = "worst_case"
    match request.endpoint.price_known:
        case PriceKnown.AFTERWARDS:
            input_tokens = most = None
        case PriceKnown.BY_INPUT:
            most = 0
        case PriceKnown.BY_OUTPUT:
            if most is None or (settings.mode == "sliding" and request.streaming):
                mode = "sliding"
    return HoldRequest(
        customer_id=start.customer_id,
        stream_id=start.stream_id,
        provider=start.provider,
        model=start.model,
        input_tokens=input_tokens,
        mode=mode,
        max_output_tokens=most,
        service_tier=start.service_tier,
        api_key_id=start.api_key_id,
        tags=start.tags,
        slice_output_tokens=settings.slice_output_tokens,
        lease_seconds=settings.lease_seconds,
    )


def _most_output(request: CompletionRequest) -> int | None:
    """The most output of all answers together; None if the request sets no limit."""
    each = request.max_output_tokens
    return None if each is None else min(each * request.billed_choices, MAX_COUNT)


def _price_unknown(request: CompletionRequest) -> Problem:
    message = (
        f"What this request to {request.model!r} costs is not known before it is answered, and the budget does not"
        " take such requests. The gateway's operator can add a price."
    )
    details = {"param": "model"}
    return Problem(
        status=422,
        message=message,
        type="invalid_request_error",
        code="price_unknown",
        param="model",
        details=details,
    )


def _refused(error: HoldRefused, request: CompletionRequest) -> Problem:
    if error.code != _CODE:
        message = f"This request cannot be checked against its budget: {error}"
        return Problem(status=400, message=message, type="invalid_request_error", code="hold_refused", details={})
    left = max(error.headroom_usd_cents or Decimal(0), Decimal(0)).quantize(_PLACES, ROUND_FLOOR)
    needed = (error.needed_usd_cents or Decimal(0)).quantize(_PLACES, ROUND_CEILING)
    fits = error.max_output_tokens_that_fit
    if fits is not None:
        fits //= request.billed_choices
    resets_at = error.resets_at.isoformat().replace("+00:00", "Z") if error.resets_at else None
    sentences = [
        f"Budget exhausted: {_plain(left)} cents are left, and this request needs {_plain(needed)} cents."
    ]
    if request.endpoint.price_known is PriceKnown.BY_OUTPUT and fits is not None:
        sentences.append(
            f"It would fit with {request.limit_name} of {fits} or less."
            if fits
            else "Its input alone does not fit: shorten it."
        )
    sentences.append(f"The budget resets at {resets_at}." if resets_at else "The budget does not reset by itself.")
    details: dict[str, Any] = {
        "left_usd_cents": _plain(left),
        "needed_usd_cents": _plain(needed),
        "max_output_tokens_that_fit": fits,
        "resets_at": resets_at,
    }
    return Problem(status=402, message=" ".join(sentences), type=_TYPE, code=_CODE, details=details)


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


_UNAVAILABLE = Problem(
    status=503,
    message="The budget cannot be checked now. Try again: nothing was sent upstream, and nothing is billed.",
    type="server_error",
    code="budget_unavailable",
)
