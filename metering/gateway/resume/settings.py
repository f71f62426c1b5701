"""The settings of resume, from the environment; without a Valkey it is off."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from metering.gateway.environment import PREFIX, GatewayConfigError, seconds_of, whole_number_of

_MIB = 1 << 20
_MOST_STREAMS = 1_000_000
# A process that writes answers gives a sign of life every second, and counts as dead after this time.
ALIVE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeSettings:
    """Where answers are kept, and the bounds.

    An answer of at most `max_bytes` is kept for `keep_seconds` after its end. Valkey holds at most `max_streams`,
    and `max_streams_per_customer` of each customer. A completion goes on for `window_seconds` after its client has
    left. A request waits for Valkey for at most `timeout_seconds`.
    """

    url: str = field(repr=False)
    keep_seconds: float = 300.0
    window_seconds: float = 60.0
    max_bytes: int = 4 * _MIB
    max_streams: int = 1_000
    max_streams_per_customer: int = 200
    timeout_seconds: float = 0.5


def read_resume_settings(environment: Mapping[str, str]) -> ResumeSettings | None:
    """The settings, or None if resume is off.

    Raises:
        GatewayConfigError: a setting is wrong.
    """
    name = f"{PREFIX}RESUME_REDIS_URL"
    url = environment.get(name)
    if not url:
        return None
    parts = urlsplit(url)
    is_socket = parts.scheme == "unix" and parts.path
    if not is_socket and not (parts.scheme in ("redis", "rediss") and parts.hostname):
        # The value may have a password.
        raise GatewayConfigError(f"{name}: expected a URL such as redis://127.0.0.1:6379/0, or unix:///path")
    keep_seconds = seconds_of(environment, "RESUME_KEEP_SECONDS", 300.0)
    if keep_seconds < ALIVE_SECONDS:
        name = f"{PREFIX}RESUME_KEEP_SECONDS"
        raise GatewayConfigError(f"{name}: expected at least {ALIVE_SECONDS:g}, got {keep_seconds:g}")
    return ResumeSettings(
        url=url,
        keep_seconds=keep_seconds,
        window_seconds=seconds_of(environment, "RESUME_WINDOW_SECONDS", 60.0),
        max_bytes=whole_number_of(environment, "RESUME_MAX_BYTES", 4 * _MIB, least=1_024, most=256 * _MIB),
        max_streams=whole_number_of(environment, "RESUME_MAX_STREAMS", 1_000, most=_MOST_STREAMS),
        max_streams_per_customer=whole_number_of(
            environment, "RESUME_MAX_STREAMS_PER_CUSTOMER", 200, most=_MOST_STREAMS
        ),
        timeout_seconds=seconds_of(environment, "RESUME_TIMEOUT_SECONDS", 0.5),
    )
