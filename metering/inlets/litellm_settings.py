"""Settings of the LiteLLM inlet, from environment variables (docs/gateways.md)."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metering.answers.litellm_names import PAYERS, TAGGED, UNASSIGNED, USUAL_PAYERS, USUAL_TAGS
from metering.core.errors import MeteringError

PREFIX = "METERING_LITELLM_"


class LiteLLMConfigError(MeteringError):
    """A setting is missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteLLMSettings:
    """`payers` are tried in this order; where none is known, `default_customer` pays."""

    url: str
    key: str
    source: str
    spool: Path
    payers: tuple[str, ...] = USUAL_PAYERS
    default_customer: str = UNASSIGNED
    tags: tuple[str, ...] = USUAL_TAGS

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "LiteLLMSettings":
        """The settings.

        Raises:
            LiteLLMConfigError: a variable is missing or wrong; the message names it.
        """
        key = environment.get(f"{PREFIX}INGEST_KEY") or environment.get("METERING_INGEST_KEY")
        if not key:
            raise LiteLLMConfigError(f"{PREFIX}INGEST_KEY is not set: set it to a key with the role ingest")
        return cls(
            url=environment.get(f"{PREFIX}URL") or "http://127.0.0.1:8000",
            key=key,
            source=environment.get(f"{PREFIX}SOURCE") or f"/litellm/{socket.gethostname()}",
            spool=Path(environment.get(f"{PREFIX}SPOOL") or _default_spool(environment)),
            payers=_names(environment, "CUSTOMER", PAYERS, USUAL_PAYERS),
            default_customer=environment.get(f"{PREFIX}DEFAULT_CUSTOMER") or UNASSIGNED,
            tags=_names(environment, "TAGS", TAGGED, USUAL_TAGS),
        )


def _names(
    environment: Mapping[str, str], name: str, known: tuple[str, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    value = environment.get(f"{PREFIX}{name}")
    if value is None:
        return default
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    if unknown := [part for part in names if part not in known]:
        raise LiteLLMConfigError(f"{PREFIX}{name}: expected some of {', '.join(known)}; got {', '.join(unknown)}")
    return names


def _default_spool(environment: Mapping[str, str]) -> Path:
    state = environment.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "metering" / "litellm-spool"
