"""Booked amounts: what a stream owes, its usage charge, and the adjustments that follow. Nothing is edited.

A `Bill` is what the facts of a stream amount to. The first one is booked as a charge; when later facts change
it, an adjustment books the difference and carries the new bill. So the newest bill is always what the facts
say, and charge + adjustments always sum to it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from metering.core.ids import digest
from metering.core.money import EXACT, ZERO, sum_cents
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine
from metering.streams.resolutions import ResolutionAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a stream owes and why; `usd_cents` is the exact sum of the lines.

    `rate_card_id` is None only when nothing is billed. `model_rule` says how the model's name led to the card,
    `retry_of` of which stream this one looks like a retry, `resolution` what an admin decided.
    """

    outcome: Outcome
    provider: str
    model: str
    response_model: str | None
    api_key_id: str | None
    started_at: datetime
    ended_at: datetime
    usage: Usage
    usage_source: UsageSource
    input_unknown: bool
    cancel_policy: CancelPolicy
    rate_card_id: str | None
    rated_model: str | None
    lines: tuple[ChargeLine, ...]
    service_tier: str | None = None
    cancel_policy_version: int = 0
    model_rule: str | None = None
    markup_percent: Decimal = ZERO
    retry_of: str | None = None
    resolution: ResolutionAction | None = None
    usd_cents: Decimal = field(init=False, default=ZERO)

    def __post_init__(self) -> None:
        object.__setattr__(self, "usd_cents", sum_cents([line.usd_cents for line in self.lines]))


class AdjustmentReason(StrEnum):
    """Why an adjustment was booked."""

    LATE_FACTS = "late_facts"
    RERATE = "rerate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """The one usage charge of a stream. `request_key` is what it asked for (domain/retries.py)."""

    charge_id: str
    customer_id: str
    stream_id: str
    booked_at: datetime
    period: str
    bill: Bill
    request_key: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """A later fact's difference: `usd_cents` = new bill - bill before. `bill` is None when, for now, nothing
    may be billed (the facts have come to contradict each other, or lost their rate)."""

    adjustment_id: str
    customer_id: str
    stream_id: str
    charge_id: str
    revision: int
    booked_at: datetime
    period: str
    reason: AdjustmentReason
    usd_cents: Decimal
    bill: Bill | None


def charge_id_of(*, customer_id: str, stream_id: str) -> str:
    """A charge's id follows from its stream, so that booking it twice cannot make two."""
    return f"ch_{digest(customer_id, stream_id)}"


def adjustment_id_of(*, customer_id: str, stream_id: str, revision: int) -> str:
    """An adjustment's id follows from its stream and its place in the stream's history."""
    return f"adj_{digest(customer_id, stream_id, str(revision))}"


def adjust(
    *,
    customer_id: str,
    stream_id: str,
    revision: int,
    before: Bill | None,
    after: Bill | None,
    reason: AdjustmentReason,
    booked_at: datetime,
    period: str,
) -> Adjustment:
    """The adjustment that takes a stream from one bill to the next."""
    return Adjustment(
        adjustment_id=adjustment_id_of(customer_id=customer_id, stream_id=stream_id, revision=revision),
        customer_id=customer_id,
        stream_id=stream_id,
        charge_id=charge_id_of(customer_id=customer_id, stream_id=stream_id),
        revision=revision,
        booked_at=booked_at,
        period=period,
        reason=reason,
        usd_cents=difference(before=before, after=after),
        bill=after,
    )


def difference(*, before: Bill | None, after: Bill | None) -> Decimal:
    """What has to be booked so that the sum of all bookings is the new bill."""
    return EXACT.subtract(after.usd_cents if after else ZERO, before.usd_cents if before else ZERO)
