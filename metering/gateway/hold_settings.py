"""The settings of holds, from the environment; without them the gateway asks for none."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from metering.emitter import HoldSettings
from metering.emitter.hold import MOST_LEASE, MOST_SLICE, HoldMode
from metering.gateway.environment import PREFIX, GatewayConfigError, seconds_of, whole_number_of

_OFF = "off"
_MODES: dict[str, HoldMode] = {"worst_case": "worst_case", "sliding": "sliding"}
_MOST_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayHolds:
    """How holds are asked for. `sliding` is for streamed answers: only they can be cut in the middle.

    While the metering API does not answer within `timeout_seconds`, requests are refused, or pass up to
    `fail_open_usd_cents_per_minute`. A request whose model has had no hold yet counts with
    `fail_open_usd_cents_per_stream`.
    """

    mode: HoldMode
    slice_output_tokens: int = 2_000
    lease_seconds: int = 120
    timeout_seconds: float = 1.0
    fail_open_usd_cents_per_minute: Decimal | None = None
    fail_open_usd_cents_per_stream: Decimal = Decimal(10)

    def of_worker(self, workers: int) -> HoldSettings:
        """The part of one of so many worker processes, which do not know how much the others let pass."""
        amount = self.fail_open_usd_cents_per_minute
        return HoldSettings(
            timeout=self.timeout_seconds,
            fail_open_usd_cents_per_minute=None if amount is None else amount / workers,
            fail_open_usd_cents_per_stream=self.fail_open_usd_cents_per_stream,
        )


def read_hold_settings(environment: Mapping[str, str]) -> GatewayHolds | None:
    """The settings, or None if no holds are asked for.

    Raises:
        GatewayConfigError: a setting is wrong.
    """
    mode = environment.get(f"{PREFIX}HOLDS") or _OFF
    if mode == _OFF:
        return None
    if mode not in _MODES:
        raise GatewayConfigError(f"{PREFIX}HOLDS: expected off, worst_case or sliding, got {mode!r}")
    timeout = seconds_of(environment, "HOLD_TIMEOUT_SECONDS", 1.0)
    if timeout > _MOST_TIMEOUT:
        raise GatewayConfigError(
            f"{PREFIX}HOLD_TIMEOUT_SECONDS: expected at most {_MOST_TIMEOUT:g}, got {timeout:g}"
        )
    return GatewayHolds(
        mode=_MODES[mode],
        slice_output_tokens=whole_number_of(environment, "HOLD_SLICE_OUTPUT_TOKENS", 2_000, most=MOST_SLICE),
        lease_seconds=whole_number_of(environment, "HOLD_LEASE_SECONDS", 120, most=MOST_LEASE),
        timeout_seconds=timeout,
        fail_open_usd_cents_per_minute=_amount(environment, "FAIL_OPEN_USD_CENTS_PER_MINUTE", None),
        fail_open_usd_cents_per_stream=_amount(environment, "FAIL_OPEN_USD_CENTS_PER_STREAM", Decimal(10))
        or Decimal(0),
    )


def _amount(environment: Mapping[str, str], name: str, default: Decimal | None) -> Decimal | None:
    value = environment.get(f"{PREFIX}{name}")
    if not value:
        return default
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and amount >= 0):
        raise GatewayConfigError(f"{PREFIX}{name}: expected an amount of 0 or more in cents, got {value!r}")
    return amount
