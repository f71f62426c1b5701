"""Holds: money set aside for one open stream, and what was booked beyond it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec import Struct

from metering.budgets.budget import Standing
from metering.core.ids import digest
from metering.core.money import EXACT, ZERO
from metering.credits.booking import Booking, BookingKind
from metering.events.events import hash64

_canonical = msgspec.json.Encoder(order="deterministic").encode

# (customer_id, stream_id)
StreamKey = tuple[str, str]


class HoldMode(StrEnum):
    """How much is held: all that the stream may cost, or its input and some output ahead."""

    WORST_CASE = "worst_case"
    SLIDING = "sliding"


class HoldState(StrEnum):
    """`SETTLED`: the stream's charge was booked. `RELEASED`: by the gateway. `EXPIRED`: no event came in time."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class OverrunReason(StrEnum):
    """Why more was booked than was held."""

    LATE_USAGE = "late_usage"
    COUNTED_MORE = "counted_more"
    HOLD_EXPIRED = "hold_expired"
    NO_HOLD = "no_hold"
    FAILED_OPEN = "failed_open"
    RERATED = "rerated"


class HoldRequest(Struct, frozen=True, kw_only=True):
    """What a gateway asks for before it sends a stream upstream.

    `max_output_tokens` is the most that the stream can deliver; None: unknown, which only a sliding hold can
    take, or a model without priced output. `input_tokens` is None where the input is known only afterwards, such
    as the length of a recording: then the price is not known before the stream.
    """

    customer_id: str
    stream_id: str
    provider: str
    model: str
    input_tokens: int | None
    service_tier: str | None = None
    api_key_id: str | None = None
    tags: Mapping[str, str] = {}
    max_output_tokens: int | None = None
    mode: HoldMode = HoldMode.WORST_CASE
    slice_output_tokens: int = 2_000
    lease_seconds: int = 120

    @property
    def key(self) -> StreamKey:
        """(customer_id, stream_id), which names the hold."""
        return self.customer_id, self.stream_id

    @property
    def fingerprint(self) -> int:
        """A number of 64 bits that is equal for equal requests."""
        return hash64(_canonical(self))

    @property
    def covered_output_tokens(self) -> int:
        """The output tokens that the hold covers when it is made."""
        most = self.max_output_tokens
        if self.mode is HoldMode.WORST_CASE:
            return most or 0
        return self.slice_output_tokens if most is None else min(self.slice_output_tokens, most)

    def covered_after(self, delivered: int, *, covered: int) -> int:
        """The output tokens that a sliding hold covers once so many were delivered.

        More than half of the last slice makes it longer by a slice.

        >>> asked = HoldRequest(customer_id="c", stream_id="s", provider="p", model="m", input_tokens=1,
        ...                     mode=HoldMode.SLIDING, slice_output_tokens=100)
        >>> [asked.covered_after(delivered, covered=100) for delivered in (50, 51, 990)]
        [100, 200, 1100]
        """
        if self.mode is HoldMode.WORST_CASE:
            return covered
        step = self.slice_output_tokens
        missing = 2 * delivered - (2 * covered - step)
        slices = -(-missing // (2 * step)) if missing > 0 else 0
        longer = covered + slices * step
        return longer if self.max_output_tokens is None else min(longer, max(self.max_output_tokens, covered))


class Hold(Struct, frozen=True, kw_only=True):
    """A hold as stored. `budget_ids` are the budgets that it counts against.

    `is_stopped`: it could not be made longer, and its stream has to end. `standings` are the figures of its
    budgets when it was made, with which a repeated request is answered.
    """

    request: HoldRequest
    held_usd_cents: Decimal
    covers_output_tokens: int
    state: HoldState
    is_stopped: bool
    made_at: datetime
    expires_at: datetime
    budget_ids: Sequence[str]
    standings: Sequence[Standing]

    @property
    def hold_id(self) -> str:
        """The hold's id, derived from the stream."""
        return hold_id_of(customer_id=self.request.customer_id, stream_id=self.request.stream_id)


def hold_id_of(*, customer_id: str, stream_id: str) -> str:
    """The id of a stream's hold: a second request for it would have the same."""
    return f"hold_{digest(customer_id, stream_id)}"


def expiry_of(request: HoldRequest, *, now: datetime) -> datetime:
    """When a hold expires that is made at `now`, unless an event of its stream arrives."""
    return now + timedelta(seconds=request.lease_seconds)


class Overrun(Struct, frozen=True, kw_only=True):
    """What an entry booked beyond the hold of its stream, in exact cents, above zero."""

    customer_id: str
    entry_id: str
    stream_id: str
    reason: OverrunReason
    usd_cents: Decimal
    held_usd_cents: Decimal
    booked_at: datetime


def overrun_of(booking: Booking, *, held: Decimal, state: HoldState | None) -> Overrun | None:
    """The overrun of a booking whose stream has a hold of this amount and state (None: it has none)."""
    if booking.stream_id is None or booking.kind is BookingKind.MANUAL:
        return None
    covered = held if state is HoldState.OPEN else ZERO
    beyond = EXACT.subtract(booking.usd_cents, covered)
    if beyond <= 0:
        return None
    return Overrun(
        customer_id=booking.customer_id,
        entry_id=booking.entry_id,
        stream_id=booking.stream_id,
        reason=_reason(booking, state),
        usd_cents=beyond,
        held_usd_cents=covered,
        booked_at=booking.booked_at,
    )


def _reason(booking: Booking, state: HoldState | None) -> OverrunReason:
    if booking.kind is BookingKind.RERATE:
        return OverrunReason.RERATED
    if booking.kind is BookingKind.LATE_FACTS:
        return OverrunReason.LATE_USAGE
    match state:
        case HoldState.OPEN | HoldState.SETTLED:
            return OverrunReason.COUNTED_MORE
        case HoldState.EXPIRED:
            return OverrunReason.HOLD_EXPIRED
    return OverrunReason.FAILED_OPEN if booking.failed_open else OverrunReason.NO_HOLD
