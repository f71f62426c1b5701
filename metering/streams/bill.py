"""A bill: what a stream costs by its facts, with the lines and terms that explain it."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct, structs

from metering.core.money import ZERO, sum_cents
from metering.events.events import Inlet, Outcome, UsageSource
from metering.events.usage import Usage
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine
from metering.streams.resolutions import ResolutionAction


class Flag(StrEnum):
    """What a person should know of a bill, although it is final.

    `CLOCK_SKEW`: an event was dated over five minutes ahead of its receipt, or the end before the start.
    `INCONSISTENT_USAGE`: counters contradict each other, and were read so that no token is lost.
    `OUTPUT_UNKNOWN`: the stream completed, and its output was not reported.
    `PARENT_RATE`: a kind has no rate of its own, and was priced as what it nests in.
    """

    CLOCK_SKEW = "clock_skew"
    INCONSISTENT_USAGE = "inconsistent_usage"
    OUTPUT_UNKNOWN = "output_unknown"
    PARENT_RATE = "parent_rate"


class PriceSource(StrEnum):
    """Where the price of a bill comes from: a rate card, or the upstream's own statement of the cost."""

    RATE_CARD = "rate_card"
    UPSTREAM = "upstream"


class Bill(Struct, frozen=True, kw_only=True, gc=False):
    """What a stream costs and why; `usd_cents` is the exact sum of the lines.

    `rate_card_id` is None only if nothing is billed, or if `price_source` is the upstream. `provider` and `model`
    are those of the start, `response_provider` and `response_model` those that answered. `upstream_usd_cents` is
    what the upstream says that the stream cost. `flags` are in alphabetical order. `model_rule` says how the
    model's name matched the card, `retry_of` is the stream that this one is a retry of, `resolution` is an admin's
    decision, `inlet` how the usage came in.
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
    response_provider: str | None = None
    price_source: PriceSource = PriceSource.RATE_CARD
    upstream_usd_cents: Decimal | None = None
    flags: tuple[Flag, ...] = ()
    resolution: ResolutionAction | None = None
    inlet: Inlet = Inlet.EVENTS
    # Not to be given: it is computed. As a field it is in the documents of a bill.
    usd_cents: Decimal = ZERO

    def __post_init__(self) -> None:
        structs.force_setattr(self, "usd_cents", sum_cents([line.usd_cents for line in self.lines]))
