"""A hold as a gateway asks for it: money that the service sets aside for one stream, before it goes upstream."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from metering.core.errors import MeteringError
from metering.emitter.events import check_count
from metering.events.events import StreamStart

HoldMode = Literal["worst_case", "sliding"]
_MODES: tuple[HoldMode, ...] = ("worst_case", "sliding")
MOST_SLICE, MOST_LEASE = 1_000_000, 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSettings:
    """What an emitter does about holds.

    The answer is waited for up to `timeout` seconds. A service that does not answer by then lets no stream pass,
    unless `fail_open_usd_cents_per_minute` is given: then streams pass up to this amount in any minute, in each
    process. Each counts with what the last hold of its model held, or with `fail_open_usd_cents_per_stream`.
    """

    timeout: float = 1.0
    fail_open_usd_cents_per_minute: Decimal | None = None
    fail_open_usd_cents_per_stream: Decimal = Decimal(10)

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= 60:
            raise ValueError(f"timeout: expected more than 0 and up to 60 seconds, got {self.timeout}")
        amounts = {
            "fail_open_usd_cents_per_minute": self.fail_open_usd_cents_per_minute,
            "fail_open_usd_cents_per_stream": self.fail_open_usd_cents_per_stream,
        }
        for name, amount in amounts.items():
            if amount is not None and not (Decimal(amount).is_finite() and amount >= 0):
                raise ValueError(f"{name}: expected an amount of 0 or more, got {amount}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRequest:
    """What is asked for. `input_tokens` is None where they are known only afterwards."""

    customer_id: str
    stream_id: str
    provider: str
    model: str
    input_tokens: int | None
    mode: HoldMode
    max_output_tokens: int | None = None
    service_tier: str | None = None
    api_key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    slice_output_tokens: int | None = None
    lease_seconds: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(f"hold: expected one of {', '.join(_MODES)}, got {self.mode!r}")
        for name in ("input_tokens", "max_output_tokens"):
            if (count := getattr(self, name)) is not None:
                check_count(name, count)
        for name, most in (("slice_output_tokens", MOST_SLICE), ("lease_seconds", MOST_LEASE)):
            value = getattr(self, name)
            if value is None:
                continue
            check_count(name, value)
            if not 1 <= value <= most:
                raise ValueError(f"{name}: expected 1 to {most}, got {value}")

    def body(self) -> dict[str, object]:
        """The request as JSON. It is the same each time, so that it may be sent again."""
        given = {
            "customer_id": self.customer_id,
            "stream_id": self.stream_id,
            "provider": self.provider,
            "model": self.model,
            "mode": self.mode,
            "max_output_tokens": self.max_output_tokens,
            "service_tier": self.service_tier,
            "api_key_id": self.api_key_id,
            "tags": dict(self.tags) or None,
            "slice_output_tokens": self.slice_output_tokens,
            "lease_seconds": self.lease_seconds,
        }
        known = {name: value for name, value in given.items() if value is not None}
        return {**known, "input_tokens": self.input_tokens}


def hold_of_start(
    start: StreamStart, *, mode: HoldMode, slice_output_tokens: int | None, lease_seconds: int | None
) -> HoldRequest:
    """The hold of a stream that is about to start.

    Raises:
        TypeError, ValueError: a field is wrong; the message names it.
    """
    return HoldRequest(
        customer_id=start.customer_id,
        stream_id=start.stream_id,
        provider=start.provider,
        model=start.model,
        input_tokens=start.input_tokens,
        mode=mode,
        max_output_tokens=start.max_output_tokens,
        service_tier=start.service_tier,
        api_key_id=start.api_key_id,
        tags=start.tags,
        slice_output_tokens=slice_output_tokens,
        lease_seconds=lease_seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBudget:
    """A budget that a hold counts against, as it was when the hold was made."""

    budget_id: str
    headroom_usd_cents: Decimal
    resets_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold: the stream may begin. `failed_open`: the service did not answer, and there is no hold.

    Then the stream-start has to say so, too; `Emitter.stream` does that.
    """

    customer_id: str
    stream_id: str
    hold_id: str | None = None
    held_usd_cents: Decimal | None = None
    max_output_tokens: int | None = None
    expires_at: datetime | None = None
    budgets: Sequence[HoldBudget] = ()
    failed_open: bool = False


class HoldRefused(MeteringError):
    """The service refuses the hold: the stream must not begin. Asking again gets the same answer.

    `code` is `budget_exhausted`, `price_unknown`, or what else the service said. The figures are those of the
    budget that refuses it, in exact cents; None for other codes. `max_output_tokens_that_fit` of 0 means that not
    even the input fits. `resets_at` is None where the budget has no end.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        budget_id: str | None = None,
        limit_usd_cents: Decimal | None = None,
        spent_usd_cents: Decimal | None = None,
        held_usd_cents: Decimal | None = None,
        needed_usd_cents: Decimal | None = None,
        max_output_tokens_that_fit: int | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.budget_id = budget_id
        self.limit_usd_cents = limit_usd_cents
        self.spent_usd_cents = spent_usd_cents
        self.held_usd_cents = held_usd_cents
        self.needed_usd_cents = needed_usd_cents
        self.max_output_tokens_that_fit = max_output_tokens_that_fit
        self.resets_at = resets_at

    @property
    def headroom_usd_cents(self) -> Decimal | None:
        """What is left of the budget; below zero when it is overspent. None without figures."""
        if self.limit_usd_cents is None or self.spent_usd_cents is None or self.held_usd_cents is None:
            return None
        return self.limit_usd_cents - self.spent_usd_cents - self.held_usd_cents


class PriceUnknown(HoldRefused):
    """What the stream costs is not known, and a budget does not take such streams."""


class HoldUnavailable(MeteringError):
    """The service did not answer in time, and streams do not pass without an answer, or no more of them this
    minute. Try again later."""
