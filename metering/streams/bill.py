"""A bill: what a stream costs by its facts, with the lines and terms that explain it."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from metering.core.money import ZERO, sum_cents
from metering.events.events import Outcome, UsageSource
from metering.events.usage import Usage
from metering.prices.cancel_policies import CancelPolicy
from metering.prices.rating import ChargeLine
from metering.streams.resolutions import ResolutionAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a stream costs and why; `usd_cents` is the exact sum of the lines.

    `rate_card_id` is None only if nothing is billed. `model_rule` says how the model's name matched the card,
    `retry_of` is the stream that this one is a retry of, `resolution` is an admin's decision.
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
