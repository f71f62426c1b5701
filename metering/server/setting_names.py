"""Settings as people write them: variables that are none, durations in their own spelling."""

from collections.abc import Mapping
from datetime import timedelta

from metering.server.settings import Settings, variable_of

# Read by other parts: the gateway, its emitter, LiteLLM's inlet, and the image and tests of this product.
_READ_ELSEWHERE = ("METERING_GATEWAY_", "METERING_LITELLM_")
_READ_ELSEWHERE_ALONE = {
    "METERING_INGEST_KEY",
    "METERING_NODE_MODULES",
    "METERING_SERVICE_PASSWORD",
    "METERING_READER_PASSWORD",
    "METERING_URL",
}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """The variables that begin like settings and are read by nothing, mostly because they are misspelt."""
    known = {variable_of(name) for name in Settings.model_fields} | _READ_ELSEWHERE_ALONE
    return sorted(
        name
        for name in environment
        if name.startswith("METERING_") and not name.startswith(_READ_ELSEWHERE) and name not in known
    )


def duration_text(duration: timedelta) -> str:
    """A duration as a setting writes it.

    >>> duration_text(timedelta(hours=24)), duration_text(timedelta(minutes=90)), duration_text(timedelta(days=31))
    ('24h', '90m', '31d')
    """
    milliseconds = duration // timedelta(milliseconds=1)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if milliseconds >= (2 * size if unit == "d" else size) and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
