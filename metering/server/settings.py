"""Settings: one typed class, read from the environment with the prefix `METERING_`.

`metering doctor` prints them with secrets redacted; docs/operations.md documents each.
"""

import re
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import SettingsConfigDict

from metering.core.errors import MeteringError
from metering.db.engine import is_postgres_url
from metering.server.inlet_settings import InletSettings
from metering.server.otlp_settings import OtlpSettings
from metering.serving.processes import MAX_PROCESSES

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+)\s*(ms|s|m|min|h|d)?\s*")


class ConfigurationError(MeteringError):
    """The environment is not a valid configuration; the message names each invalid variable."""


def _parse_duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError("expected a duration such as 500ms, 30s, 15m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2] or "s"])


Duration = Annotated[timedelta, BeforeValidator(_parse_duration), Field(gt=timedelta(0))]


class Settings(InletSettings, OtlpSettings):
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
        description="Login of the schema's owner, for `metering migrate`. Default: METERING_DATABASE_URL.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Valkey or Redis, e.g. redis://host:6379/0. Unset: `metering up` starts an embedded one. "
        "It holds no data of value and can be wiped at any time.",
    )
    admin_key: SecretStr | None = Field(
        default=None, description="First admin key of the deployment, mk_<id>_<secret>, for automation."
    )
    gateway_ingest_key: SecretStr | None = Field(
        default=None,
        description="Key of a gateway, mk_<id>_<secret>, for automation: `metering migrate` adds it with role "
        "ingest.",
    )
    data: Path | None = Field(
        default=None,
        description="Data folder of the embedded servers. Default: the platform's data folder.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that the API listens on.")
    api_processes: int = Field(
        default=1,
        ge=1,
        le=MAX_PROCESSES,
        description="API processes that share the port. Each has connections to the database of its own, and the"
        " limits of keys, addresses and reads hold for each.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Format of log lines: text for people, json for machines."
    )
    abandon_after: Duration = Field(
        default=timedelta(minutes=15),
        description="A stream without events for this long is abandoned, and billed for what was delivered.",
    )
    retry_window: Duration = Field(
        default=timedelta(minutes=10),
        description="A stream that repeats the request of one that ended early within this time is linked as its "
        "retry.",
    )
    start_grace: Duration = Field(
        default=timedelta(minutes=5),
        description="An ended stream waits this long for its stream-start before it is orphaned.",
    )
    ingest_queue_events: int = Field(
        default=200_000,
        ge=1,
        description="How many events can wait for a commit in one API process. Above this, ingest answers 503.",
    )
    ingest_commit_timeout: Duration = Field(
        default=timedelta(seconds=10),
        description="A commit that takes longer is aborted: its requests get 503 and the connection is replaced.",
    )
    journal_retention: Annotated[Duration, Field(ge=timedelta(days=31))] | None = Field(
        default=None,
        description="Journal partitions (one per month) that ended longer ago are dropped; at least 31d. Workers "
        "need it, and so does `metering migrate`: the owner of the database allows no less. Default: none are "
        "dropped.",
    )
    request_timeout: Duration = Field(
        default=timedelta(seconds=30), description="A client has this long to send a request, headers and body."
    )
    send_timeout: Duration = Field(
        default=timedelta(seconds=20),
        description="A client that reads less than 1 KiB/s of its answer for this long is disconnected.",
    )
    max_connections: int = Field(
        default=2_000, ge=1, description="Open connections of clients to one API process. Idle ones make room."
    )
    max_connections_per_address: int = Field(
        default=500, ge=1, description="Open connections from one address (IPv6: from one /64 network)."
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses and networks of your proxies, separated by commas. Only their X-Forwarded-For and "
        "X-Forwarded-Proto are believed.",
    )
    read_timeout: Duration = Field(
        default=timedelta(seconds=10),
        description="A query of the API or the dashboard is ended after this long, with 503.",
    )
    read_wait: Duration = Field(
        default=timedelta(seconds=5),
        description="A request waits this long for its turn while others run; then it gets 503.",
    )
    concurrent_reads: int = Field(
        default=4,
        ge=2,
        le=32,
        description="Requests other than ingest that run at a time in one API process. One key has half of them.",
    )
    statement_timeout: Annotated[Duration, Field(ge=timedelta(seconds=30))] = Field(
        default=timedelta(minutes=5),
        description="A statement of a command, or a long one of a worker, is ended after this long; at least 30s.",
    )
    key_events_per_second: int | None = Field(
        default=None, ge=1, description="Events a second of one key, to one API process. Default: no limit."
    )
    key_requests_per_second: int | None = Field(
        default=None, ge=1, description="Requests a second of one key, to one API process. Default: no limit."
    )
    key_concurrent_requests: int = Field(
        default=256, ge=1, description="Requests of one key that may be in progress in one API process."
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        description="Bearer token for /metrics. Without it, anyone may read them, without amounts of money.",
    )
    export_timeout: Duration = Field(
        default=timedelta(minutes=30),
        description="The download of an export is aborted after this long, because it holds a database snapshot.",
    )
    finalize_batch: int = Field(
        default=5_000, ge=1, le=20_000, description="How many streams are finalized in one transaction."
    )

    close_grace: Duration = Field(
        default=timedelta(hours=24),
        description="A month stays open for this long after its end, so that its last streams settle.",
    )
    close_automatically: bool = Field(
        default=True,
        description="Beat closes each month, and pushes its invoices, once METERING_CLOSE_GRACE is over.",
    )
    invoice_minimum_cents: int = Field(
        default=50,
        ge=0,
        description="A month with a lower amount is carried to the next month: Stripe collects at least $0.50.",
    )
    session_lifetime: Duration = Field(
        default=timedelta(hours=12), description="Dashboard sessions expire after this long."
    )
    issuer_name: str = Field(default="LLM gateway", description="Name of the issuer on usage statements.")
    issuer_address: str = Field(
        default="", description="Address of the issuer on usage statements; a ; starts a new line."
    )
    environment: str = Field(
        default="production",
        pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        description="Marks our invoices at Stripe, so that several deployments can share an account.",
    )
    stripe_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="STRIPE_API_KEY",
        description="Stripe's secret key, sk_live_… or sk_test_…. Unset: `metering up` uses a local stand-in.",
    )
    stripe_webhook_secret: SecretStr | None = Field(
        default=None,
        validation_alias="STRIPE_WEBHOOK_SECRET",
        description="Secret that signs Stripe's posts to /v1/stripe/webhook, whsec_….",
    )
    stripe_api_base: str | None = Field(
        default=None, description="Address of a server with Stripe's API. Default: Stripe's own."
    )
    stripe_local_port: int = Field(
        default=8420,
        ge=0,
        le=65535,
        description="Port of the local stand-in for Stripe, which `metering up` starts without STRIPE_API_KEY. If"
        " it is 0 or in use, or METERING_PORT is 0, a free one is taken.",
    )
    stripe_requests_per_second: float | None = Field(
        default=None,
        gt=0,
        description="Limit of calls to Stripe per second, over all processes. "
        "Default: 80 with a live key, 20 with a test key.",
    )
    stripe_collect: bool = Field(
        default=False, description="Stripe sends or charges final invoices automatically (auto_advance)."
    )
    stripe_days_until_due: Annotated[int, Field(ge=0, le=365)] | None = Field(
        default=None, description="Invoices are sent and due within this many days, instead of charged."
    )
    stripe_keep_manual_lines: bool = Field(
        default=False,
        description="Lines that people add to our draft invoices at Stripe are kept and billed with ours.",
    )
    reconcile_every: Duration = Field(
        default=timedelta(hours=24),
        description="Beat compares the newest invoiced month with Stripe this often. It repairs nothing.",
    )
    compare_rates_every: Duration = Field(
        default=timedelta(hours=24),
        description="Beat compares the installed catalogue with the stored rates this often. It imports nothing.",
    )
    alerts_every: Duration = Field(
        default=timedelta(minutes=1), description="Alerts and exhausted budgets are evaluated this often."
    )
    alerts_retention: Annotated[Duration, Field(ge=timedelta(days=62))] = Field(
        default=timedelta(days=90),
        description="Alert occurrences and webhook deliveries are kept for this long; at least 62d.",
    )
    holds_retention: Annotated[Duration, Field(ge=timedelta(days=62))] = Field(
        default=timedelta(days=90), description="Closed holds are kept for this long; at least 62d."
    )
    webhooks_allow_private: bool = Field(
        default=False,
        description="Webhooks may go to private addresses, over http and to any port. Enable it only if everyone "
        "with an admin key may reach this network.",
    )
    webhooks_timeout: Annotated[Duration, Field(le=timedelta(seconds=30))] = Field(
        default=timedelta(seconds=15),
        description="A receiver of webhooks has this long to answer, including name resolution; at most 30s.",
    )
    webhooks_disable_after: Duration = Field(
        default=timedelta(days=5),
        description="A webhook endpoint is disabled if nothing could be delivered to it for this long.",
    )
    repair_cap_cents: int = Field(
        default=10_000, ge=0, description="A repair that would change more than this many cents is refused."
    )
    repair_cap_share: Decimal = Field(
        default=Decimal("0.05"),
        ge=0,
        le=1,
        description="A repair that would touch a larger share of customers is refused.",
    )

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _check_database(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not is_postgres_url(given.get_secret_value()):
            raise ValueError("expected a URL such as postgresql://user:pass@host/metering")
        return given

    @field_validator("redis_url")
    @classmethod
    def _check_queue(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not given.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("expected a URL such as redis://host:6379/0 or unix:///run/valkey.sock")
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, given: str) -> str:
        _networks(given)
        return given

    @property
    def proxy_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of METERING_TRUSTED_PROXIES."""
        return _networks(self.trusted_proxies)


def _networks(given: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(each.strip()) for each in given.split(",") if each.strip())


def _variable_at(location: tuple[int | str, ...]) -> str:
    name = "_".join(map(str, location))
    return variable_of(name) if name in Settings.model_fields else name


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return str(Settings.model_fields[name].validation_alias or f"METERING_{name.upper()}")


def load_settings(**given: object) -> Settings:
    """Read the settings. Values in `given` (from the command line) that are not None override the environment.

    Raises:
        ConfigurationError: a variable is invalid; the message names each one and what is expected.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        problems = [
            f"{_variable_at(item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)
        ]
        raise ConfigurationError("; ".join(problems)) from error
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})
