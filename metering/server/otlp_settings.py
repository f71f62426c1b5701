"""Settings of OTLP's paths (docs/gateways.md): a part of the service's settings."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from metering.translations.otlp.records import KINDS
from metering.translations.otlp.rules import Rules
from metering.translations.otlp.streams import MAX_TAGS

_SPAN_KINDS = [kind for kind in KINDS.values() if kind != "unspecified"]


class OtlpSettings(BaseSettings):
    """How spans and log records are read. Lists are separated by commas."""

    otlp_customer: str = Field(
        default="metering.customer_id,enduser.id,user.id",
        description="OTLP: attributes of the span, or of its resource, that name who pays; the first one that is "
        "set counts. A key that is bound to a customer goes before.",
    )
    otlp_api_key_id: str = Field(
        default="metering.api_key_id",
        description="OTLP: attributes that name the API key of a call; the first one that is set counts.",
    )
    otlp_tags: str = Field(default="", description="OTLP: attributes that become tags of a stream, at most 16.")
    otlp_scopes: str = Field(
        default="*",
        description="OTLP: instrumentation scopes whose spans are billed; * stands for any text, -name takes out.",
    )
    otlp_span_kinds: str = Field(
        default="client,internal",
        description="OTLP: kinds of spans that are billed: client, internal, server, producer, consumer.",
    )

    @field_validator("otlp_span_kinds")
    @classmethod
    def _check_kinds(cls, given: str) -> str:
        kinds = _parts(given.lower())
        if not kinds or not set(kinds).issubset(_SPAN_KINDS):
            raise ValueError(f"expected some of {', '.join(_SPAN_KINDS)}")
        return given

    @field_validator("otlp_customer", "otlp_scopes")
    @classmethod
    def _check_names(cls, given: str) -> str:
        if not _parts(given):
            raise ValueError("expected at least one name")
        return given

    @field_validator("otlp_tags")
    @classmethod
    def _check_tags(cls, given: str) -> str:
        if len(_parts(given)) > MAX_TAGS:
            raise ValueError(f"expected at most {MAX_TAGS} names")
        return given

    @property
    def otlp_rules(self) -> Rules:
        """All of them, as the translation takes them."""
        return Rules(
            customer=_parts(self.otlp_customer),
            api_key_id=_parts(self.otlp_api_key_id),
            tags=_parts(self.otlp_tags),
            kinds=_parts(self.otlp_span_kinds.lower()),
            scopes=_parts(self.otlp_scopes),
        )


def _parts(given: str) -> tuple[str, ...]:
    return tuple(text for each in given.split(",") if (text := each.strip()))
