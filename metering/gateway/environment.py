"""Single settings from the environment: each has the prefix `METERING_GATEWAY_`, and an error that names it."""

import math
from collections.abc import Mapping

from metering.core.errors import MeteringError

PREFIX = "METERING_GATEWAY_"


class GatewayConfigError(MeteringError):
    """A setting is missing or wrong; the message names the setting and the fix."""


def required(environment: Mapping[str, str], name: str, meaning: str) -> str:
    """The setting's value.

    Raises:
        GatewayConfigError: it is not set.
    """
    value = environment.get(f"{PREFIX}{name}", "")
    if not value:
        raise GatewayConfigError(f"{PREFIX}{name} is not set: set it to {meaning}")
    return value


def seconds_of(environment: Mapping[str, str], name: str, default: float, *, or_zero: bool = False) -> float:
    """The setting's value, in seconds.

    Raises:
        GatewayConfigError: it is not a number above 0; 0 is allowed with `or_zero`.
    """
    value = environment.get(f"{PREFIX}{name}") or str(default)
    if or_zero and value == "0":
        return 0.0
    try:
        return seconds(float(value), f"{PREFIX}{name}")
    except ValueError:
        raise GatewayConfigError(f"{PREFIX}{name}: expected a number of seconds, got {value!r}") from None


def seconds(value: float, where: str) -> float:
    """The value, if it is a number of seconds above 0.

    Raises:
        GatewayConfigError: it is not.
    """
    if not (math.isfinite(value) and value > 0):
        raise GatewayConfigError(f"{where}: expected a number of seconds above 0, got {value}")
    return value


def whole_number_of(environment: Mapping[str, str], name: str, default: int, *, least: int = 1, most: int) -> int:
    """The setting's value.

    Raises:
        GatewayConfigError: it is not a whole number from `least` to `most`.
    """
    value = environment.get(f"{PREFIX}{name}") or str(default)
    if not value.isdecimal() or not least <= int(value) <= most:
        raise GatewayConfigError(f"{PREFIX}{name}: expected a number from {least} to {most}, got {value!r}")
    return int(value)
