"""Settings: one typed class, read from the environment with the prefix `METERING_`.

`metering doctor` prints them with secrets redacted; docs/operations.md documents each.
"""

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from metering.core.errors import MeteringError

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+)\s*(ms|s|m|min|h|d)?\s*")


class ConfigurationError(MeteringError):
    """The environment does not make a usable configuration; the message names each variable."""


def _parse_duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError("expected a duration such as 500ms, 30s, 15m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2] or "s"])


Duration = Annotated[timedelta, BeforeValidator(_parse_duration), Field(gt=timedelta(0))]


class Settings(BaseSettings):
    """What a deployment can set. Every field is `METERING_<NAME>` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="METERING_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        validate_by_name=True,
        validate_by_alias=True,
    )

    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL 15 or newer, e.g. postgresql://user:pass@host/metering. "
        "Unset: `metering up` starts an embedded one.",
    )
    migration_database_url: SecretStr | None = Field(
        default=None,
        description="The owner's login, for `metering migrate`. Default: METERING_DATABASE_URL.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Valkey or Redis, e.g. redis://host:6379/0. Unset: `metering up` starts an embedded one. "
        "Holds nothing that matters: it may be wiped at any time.",
    )
    admin_key: SecretStr | None = Field(
        default=None, description="The deployment's first admin key, mk_<id>_<secret>; for automation."
    )
    data: Path | None = Field(
        default=None,
        description="Where embedded servers keep their data. Default: the platform's data folder.",
    )
    host: str = Field(default="127.0.0.1", description="The address that the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="The port that the API listens on.")
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people (text) or machines (json)."
    )
    abandon_after: Duration = Field(
        default=timedelta(minutes=15),
        description="A stream silent for this long is swept: billed as abandoned for what was delivered.",
    )
    retry_window: Duration = Field(
        default=timedelta(minutes=10),
        description="A stream that asks for the same as one that ended early so shortly before is a retry.",
    )
    start_grace: Duration = Field(
        default=timedelta(minutes=5),
        description="How long an ended stream waits for its stream-start before it is orphaned.",
    )
    ingest_queue_events: int = Field(
        default=200_000,
        ge=1,
        description="Events that may wait for a commit in one API process; above it, 503.",
    )
    ingest_commit_timeout: Duration = Field(
        default=timedelta(seconds=10),
        description="A commit that takes longer is given up: its requests get 503 and the connection is replaced.",
    )
    journal_retention: Annotated[Duration, Field(ge=timedelta(days=31))] | None = Field(
        default=None,
        description="Journal partitions (a month each) that ended longer ago are dropped; at least 31d. "
        "Default: all is kept.",
    )
    request_timeout: Duration = Field(
        default=timedelta(seconds=30), description="A client has this long to send a request, head and body."
    )
    export_timeout: Duration = Field(
        default=timedelta(minutes=30),
        description="A download of an export is ended after this long; it holds a database snapshot meanwhile.",
    )
    finalize_batch: int = Field(default=5_000, ge=1, le=20_000, description="Streams finalized per transaction.")

    close_grace: Duration = Field(
        default=timedelta(hours=24),
        description="A month stays open for this long after its end, so that its last streams can settle.",
    )
    close_automatically: bool = Field(
        default=True, description="Beat closes and pushes each month by itself once its grace is over."
    )
    invoice_minimum_cents: int = Field(
        default=50,
        ge=0,
        description="A month that comes to less is carried to the next: Stripe collects no less than $0.50.",
    )
    session_lifetime: Duration = Field(
        default=timedelta(hours=12), description="Whoever signs in to the dashboard has to again after this long."
    )
    issuer_name: str = Field(default="LLM gateway", description="Who usage statements are from.")
    issuer_address: str = Field(default="", description="Its address on them; a ; begins a new line.")
    environment: str = Field(
        default="production",
        pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="Marks our invoices at Stripe, where several deployments share an account.",
    )
    stripe_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="STRIPE_API_KEY",
        description="Stripe's secret key, sk_live_… or sk_test_…. Unset: `metering up` uses a local stand-in.",
    )
    stripe_webhook_secret: SecretStr | None = Field(
        default=None,
        validation_alias="STRIPE_WEBHOOK_SECRET",
        description="Signs what Stripe posts to /v1/stripe/webhook, whsec_….",
    )
    stripe_api_base: str | None = Field(
        default=None, description="Another address than Stripe's own, for something that speaks like it."
    )
    stripe_requests_per_second: float | None = Field(
        default=None,
        gt=0,
        description="Calls to Stripe by all processes together. Default: 80 with a live key, 20 with a test key.",
    )
    stripe_collect: bool = Field(
        default=False, description="Stripe sends or charges final invoices by itself (auto_advance)."
    )
    stripe_days_until_due: Annotated[int, Field(ge=0, le=365)] | None = Field(
        default=None, description="Invoices are sent, to be paid within so many days, instead of charged."
    )
    stripe_keep_manual_lines: bool = Field(
        default=False,
        description="Lines that people add to our drafts at Stripe are kept, and billed beside ours.",
    )
    reconcile_every: Duration = Field(
        default=timedelta(hours=24),
        description="Beat compares the newest invoiced month with Stripe this often, and repairs nothing.",
    )
    alerts_every: Duration = Field(
        default=timedelta(minutes=1), description="Alerts are evaluated this often, each kind by itself."
    )
    alerts_retention: Annotated[Duration, Field(ge=timedelta(days=62))] = Field(
        default=timedelta(days=90),
        description="What occurred, and what webhooks were sent, is kept for so long; at least 62d.",
    )
    webhooks_allow_private: bool = Field(
        default=False,
        description="Webhooks may go to private addresses, over http and to any port. Only where whoever has an "
        "admin key may reach this network.",
    )
    webhooks_timeout: Annotated[Duration, Field(le=timedelta(seconds=30))] = Field(
        default=timedelta(seconds=15),
        description="A webhook's receiver has this long to answer, from looking up its name on; at most 30s.",
    )
    webhooks_disable_after: Duration = Field(
        default=timedelta(days=5),
        description="A webhook endpoint to which nothing could be delivered for so long is disabled.",
    )
    repair_cap_cents: int = Field(
        default=10_000, ge=0, description="A repair that would move more cents than this does nothing."
    )
    repair_cap_share: Decimal = Field(
        default=Decimal("0.05"),
        ge=0,
        le=1,
        description="A repair that would touch a greater share of customers does nothing.",
    )


def _variable_at(location: tuple[int | str, ...]) -> str:
    name = "_".join(map(str, location))
    return variable_of(name) if name in Settings.model_fields else name


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return str(Settings.model_fields[name].validation_alias or f"METERING_{name.upper()}")


def load_settings(**given: object) -> Settings:
    """The settings in force; what is `given` on the command line, and not None, comes before the environment.

    Raises:
        ConfigurationError: naming each variable that is wrong, and what was expected.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        problems = [f"{_variable_at(item['loc'])}: {item['msg']}" for item in error.errors(include_url=False)]
        raise ConfigurationError("; ".join(problems)) from error
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})
