"""`POST /v1/holds` for gateways: money set aside before a stream. FastAPI is not asked, as for posted events."""

from collections.abc import Sequence
from typing import Annotated, Literal

import jiter
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields
from starlette.responses import Response

from metering.access.keys import Key
from metering.access.scopes import Scope
from metering.api.answers import time_text
from metering.api.auth import ForbiddenError
from metering.api.gate import Limits, read_body
from metering.api.incoming import Incoming
from metering.api.parameters import nul_at, unknown_names
from metering.api.problems import InvalidParameterError
from metering.budgets.budget import Standing
from metering.budgets.hold_writer import HoldWriter
from metering.budgets.holds import Hold, HoldMode, HoldRequest
from metering.core.money import cents_text
from metering.events.wire.admission import CONTROL
from metering.events.wire.events import Count, Id, Name, Note
from metering.events.wire.rejections import what_is_wrong
from metering.streams.ingest.body import media_type_of

_encode = msgspec.json.Encoder().encode


class HoldBody(Struct, frozen=True):
    """A request for a hold."""

    customer_id: Id
    stream_id: Id
    provider: Id
    model: Name
    input_tokens: Count | None
    service_tier: Note | None = None
    api_key_id: Id | None = None
    tags: Annotated[dict[Id, Note], Meta(max_length=16)] | None = None
    max_output_tokens: Count | None = None
    mode: Literal["worst_case", "sliding"] = "worst_case"
    slice_output_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 2_000
    lease_seconds: Annotated[int, Meta(ge=1, le=3_600)] = 120


class HoldBudget(Struct, frozen=True):
    """A budget that a hold counts against, as it was when the hold was made."""

    budget_id: str
    headroom_usd_cents: str
    resets_at: str | None


class HeldAnswer(Struct, frozen=True):
    """A hold. The stream may begin."""

    hold_id: str
    held_usd_cents: str
    max_output_tokens: int | None
    expires_at: str
    budgets: Sequence[HoldBudget]


_FIELDS = frozenset(field.name for field in fields(HoldBody))


class HoldsEndpoint:
    """Authenticates, decodes, has the writer admit the hold, and answers only then."""

    scope = Scope.HOLDS_WRITE

    def __init__(self, *, writer: HoldWriter, limits: Limits) -> None:
        self._writer = writer
        self._limits = limits

    async def __call__(self, request: Incoming) -> Response:
        """Answer one request.

        Raises:
            MeteringError: it is refused; the gate answers.
            ClientGoneError: the client has left.
        """
        key = await self._limits.key_of_writer(request.header(b"authorization"), needs=self.scope)
        self._limits.keys.enter(key)
        try:
            hold = await self._writer.admit(await _read(request, key))
        finally:
            self._limits.keys.leave(key)
        return Response(_encode(held_answer(hold)), 201, media_type="application/json")


async def _read(request: Incoming, key: Key) -> HoldRequest:
    media_type_of(request.header(b"content-type") or "")
    return read_request(await read_body(request), customer_id=key.customer_id)


def read_request(body: bytes, *, customer_id: str | None) -> HoldRequest:
    """The request for a hold in a body; `customer_id` is what the key is bound to.

    Raises:
        InvalidParameterError: it is not valid; the message names the field.
        ForbiddenError: the key is for another customer.
    """
    try:
        given = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidParameterError(f"the body is not JSON: {error}") from error
    if isinstance(given, dict) and (unknown := [name for name in given if name not in _FIELDS]):
        raise InvalidParameterError(unknown_names(unknown, known=sorted(_FIELDS), what="field"))
    if (where := nul_at(given)) is not None:
        raise InvalidParameterError(f"{where}: contains NUL, which no text here may")
    try:
        asked = msgspec.convert(given, HoldBody)
    except msgspec.ValidationError as error:
        raise InvalidParameterError(what_is_wrong(given, str(error))) from error
    _check_text(asked)
    if customer_id is not None and asked.customer_id != customer_id:
        raise ForbiddenError(f"customer_id: this key asks only for holds of customer {customer_id!r}")
    return HoldRequest(
        customer_id=asked.customer_id,
        stream_id=asked.stream_id,
        provider=asked.provider,
        model=asked.model,
        service_tier=asked.service_tier,
        api_key_id=asked.api_key_id,
        tags=asked.tags or {},
        input_tokens=asked.input_tokens,
        max_output_tokens=asked.max_output_tokens,
        mode=HoldMode(asked.mode),
        slice_output_tokens=asked.slice_output_tokens,
        lease_seconds=asked.lease_seconds,
    )


def _check_text(asked: HoldBody) -> None:
    if CONTROL.search(asked.customer_id):
        raise InvalidParameterError("customer_id: expected an id without control characters")
    if any("\0" in name for name in asked.tags or {}):
        raise InvalidParameterError("tags: contains NUL, which no text here may")


def held_answer(hold: Hold) -> HeldAnswer:
    """A hold as it is answered."""
    return HeldAnswer(
        hold_id=hold.hold_id,
        held_usd_cents=cents_text(hold.held_usd_cents),
        max_output_tokens=hold.request.max_output_tokens,
        expires_at=time_text(hold.expires_at),
        budgets=[_hold_budget(each) for each in hold.standings],
    )


def _hold_budget(standing: Standing) -> HoldBudget:
    return HoldBudget(
        budget_id=standing.budget_id,
        headroom_usd_cents=cents_text(standing.headroom_usd_cents),
        resets_at=time_text(standing.resets_at) if standing.resets_at else None,
    )
