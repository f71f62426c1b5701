"""Settings of the ways in for other gateways (docs/gateways.md): a part of the service's settings."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from metering.answers.litellm_names import PAYERS, TAGGED, UNASSIGNED, USUAL_PAYERS, USUAL_TAGS
from metering.translations.access_log import read_providers


class InletSettings(BaseSettings):
    """How records of other senders are read."""

    openmeter_types: Path | None = Field(
        default=None,
        description="TOML file that declares how types of OpenMeter's events become usage; it adds to those that "
        "are built in.",
    )
    access_log_customer: str = Field(
        default="",
        description="Fields of access logs that name the customer, separated by commas; the first that is there "
        "counts. Default: those of each dialect.",
    )
    access_log_providers: str = Field(
        default="",
        description="Providers of the upstreams in access logs, written upstream=provider, separated by commas.",
    )
    litellm_customer: str = Field(
        default=",".join(USUAL_PAYERS),
        description="Who pays for calls that LiteLLM's generic_api posts: the first of these that is known.",
    )
    litellm_default_customer: str = Field(
        default=UNASSIGNED, min_length=1, max_length=128, description="Who pays for them if none is known."
    )
    litellm_tags: str = Field(
        default=",".join(USUAL_TAGS), description="Tags of their streams, separated by commas."
    )

    @field_validator("access_log_providers")
    @classmethod
    def _check_providers(cls, given: str) -> str:
        read_providers(given)
        return given

    @field_validator("litellm_customer")
    @classmethod
    def _check_payers(cls, given: str) -> str:
        return _check_names(given, PAYERS)

    @field_validator("litellm_tags")
    @classmethod
    def _check_tags(cls, given: str) -> str:
        return _check_names(given, TAGGED)

    @property
    def access_log_fields(self) -> tuple[str, ...]:
        """The fields of METERING_ACCESS_LOG_CUSTOMER."""
        return _parts(self.access_log_customer)

    @property
    def access_log_upstreams(self) -> dict[str, str]:
        """The providers of METERING_ACCESS_LOG_PROVIDERS, by upstream in lower case."""
        return read_providers(self.access_log_providers)

    @property
    def litellm_payers(self) -> tuple[str, ...]:
        """The names of METERING_LITELLM_CUSTOMER."""
        return _parts(self.litellm_customer)

    @property
    def litellm_tag_names(self) -> tuple[str, ...]:
        """The names of METERING_LITELLM_TAGS."""
        return _parts(self.litellm_tags)


def _parts(given: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.split(",") if part.strip())


def _check_names(given: str, known: Sequence[str]) -> str:
    if unknown := [part for part in _parts(given) if part not in known]:
        raise ValueError(f"expected some of {', '.join(known)}; got {', '.join(unknown)}")
    return given
