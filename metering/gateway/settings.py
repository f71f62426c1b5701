"""The gateway's settings: single values from the environment, upstreams and keys from a TOML file."""

import hashlib
import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from metering.gateway.environment import (
    PREFIX,
    GatewayConfigError,
    required,
    seconds,
    seconds_of,
    whole_number_of,
)
from metering.gateway.hold_settings import GatewayHolds, read_hold_settings
from metering.gateway.resume.settings import ResumeSettings, read_resume_settings

_INGEST_KEY = "a key of the metering API with the role ingest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """An OpenAI-compatible API. `models` are glob patterns; the first upstream that matches gets the request.

    When the client leaves, the answer is read for up to `drain_seconds` more, for the usage at its end. This suits
    providers with the cancel policy `drain`; 0 closes the upstream connection at once. `include_usage`: streamed
    requests ask for usage with `stream_options`. `api_key_header`: where the upstream's key is sent, by default in
    `authorization`, and for Anthropic's format in `x-api-key`.
    """

    provider: str
    base_url: str
    models: tuple[str, ...]
    api_key: str | None = None
    forward_headers: tuple[str, ...] = ()
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 600.0
    drain_seconds: float = 0.0
    include_usage: bool = True
    api_key_header: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """The hash of a key for clients of the gateway, and the customer who pays."""

    key_sha256: str
    customer_id: str
    api_key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """All settings of a gateway.

    A client that takes nothing for `stall_seconds` is disconnected. After SIGTERM, running streams get
    `grace_seconds`. Acknowledged events are kept for `keep_sent_seconds`. Browsers may call from `cors_origins`.
    Without `resume`, no answer is kept for clients that come back. Without `holds`, no budget is asked.
    """

    metering_url: str
    ingest_key: str
    upstreams: tuple[Upstream, ...]
    keys: tuple[ClientKey, ...]
    spool: Path
    source: str
    host: str = "127.0.0.1"
    port: int = 8080
    stall_seconds: float = 60.0
    grace_seconds: float = 30.0
    keep_sent_seconds: float = 86_400.0
    workers: int = 1
    cors_origins: tuple[str, ...] = ()
    ingest_key_file: Path | None = None
    resume: ResumeSettings | None = None
    holds: GatewayHolds | None = None

    def current_ingest_key(self) -> str:
        """The key, read again from its file if it is in one: it can be replaced while the gateway runs.

        Raises:
            OSError: the file cannot be read.
        """
        if self.ingest_key_file is None:
            return self.ingest_key
        return self.ingest_key_file.read_text(encoding="utf-8").strip()


class _UpstreamTable(msgspec.Struct, forbid_unknown_fields=True):
    provider: str
    base_url: str
    models: list[str]
    api_key_env: str | None = None
    api_key: str | None = None
    forward_headers: list[str] = []
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 600.0
    drain_seconds: float = 0.0
    include_usage: bool = True
    api_key_header: str | None = None


class _KeyTable(msgspec.Struct, forbid_unknown_fields=True):
    customer_id: str
    key: str | None = None
    key_sha256: str | None = None
    api_key_id: str | None = None


class _ConfigFile(msgspec.Struct, forbid_unknown_fields=True):
    upstreams: list[_UpstreamTable]
    keys: list[_KeyTable]


def settings_from_environment(*, environment: Mapping[str, str] = os.environ) -> GatewaySettings:
    """Read `METERING_GATEWAY_*` and the TOML file that `METERING_GATEWAY_CONFIG` names.

    Raises:
        GatewayConfigError: a setting is missing or wrong.
    """
    path = Path(required(environment, "CONFIG", "the path of the TOML file with [[upstreams]] and [[keys]]"))
    upstreams, keys = read_config(path=path, environment=environment)
    key_file = _key_file(environment)
    return GatewaySettings(
        metering_url=_url(environment.get(f"{PREFIX}URL", "http://127.0.0.1:8000"), f"{PREFIX}URL"),
        ingest_key="" if key_file else required(environment, "INGEST_KEY", _INGEST_KEY),
        ingest_key_file=key_file,
        upstreams=upstreams,
        keys=keys,
        spool=Path(environment.get(f"{PREFIX}SPOOL") or _default_spool(environment)),
        source=environment.get(f"{PREFIX}SOURCE") or f"/gateways/{socket.gethostname()}",
        host=environment.get(f"{PREFIX}HOST", "127.0.0.1"),
        port=_port(environment.get(f"{PREFIX}PORT", "8080")),
        stall_seconds=seconds_of(environment, "STALL_SECONDS", 60.0),
        grace_seconds=seconds_of(environment, "GRACE_SECONDS", 30.0),
        keep_sent_seconds=seconds_of(environment, "KEEP_SENT_SECONDS", 86_400.0, or_zero=True),
        workers=whole_number_of(environment, "WORKERS", 1, most=64),
        cors_origins=_origins(environment.get(f"{PREFIX}CORS_ORIGINS", "")),
        resume=read_resume_settings(environment),
        holds=read_hold_settings(environment),
    )


def read_config(
    *, path: Path, environment: Mapping[str, str]
) -> tuple[tuple[Upstream, ...], tuple[ClientKey, ...]]:
    """The upstreams and client keys in the TOML file.

    Raises:
        GatewayConfigError: the file cannot be read, or a field is wrong.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GatewayConfigError(f"{PREFIX}CONFIG={path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GatewayConfigError(f"{path}: not valid TOML: {error}") from error
    try:
        tables = msgspec.convert(document, _ConfigFile)
    except msgspec.ValidationError as error:
        raise GatewayConfigError(f"{path}: {error}") from error
    if not tables.upstreams:
        raise GatewayConfigError(f"{path}: upstreams: add at least one [[upstreams]] table")
    if not tables.keys:
        raise GatewayConfigError(f"{path}: keys: add at least one [[keys]] table, which clients need for access")
    upstreams = tuple(_upstream(t, f"{path}: upstreams[{i}]", environment) for i, t in enumerate(tables.upstreams))
    keys = tuple(_client_key(table, f"{path}: keys[{i}]") for i, table in enumerate(tables.keys))
    _refuse_repeated_keys(keys, str(path))
    return upstreams, keys


def _refuse_repeated_keys(keys: tuple[ClientKey, ...], where: str) -> None:
    known: dict[str, int] = {}
    for place, key in enumerate(keys):
        if (first := known.setdefault(key.key_sha256, place)) != place:
            raise GatewayConfigError(f"{where}: keys[{place}] is the same key as keys[{first}]: remove one")


def _upstream(table: _UpstreamTable, where: str, environment: Mapping[str, str]) -> Upstream:
    if not 1 <= len(table.provider) <= 128:
        raise GatewayConfigError(f"{where}.provider: name the provider in 1 to 128 characters")
    if not table.models or not all(table.models):
        raise GatewayConfigError(f'{where}.models: list at least one pattern, such as ["claude-*"]')
    if table.api_key is not None and table.api_key_env is not None:
        raise GatewayConfigError(f"{where}: give api_key or api_key_env, not both")
    api_key = table.api_key
    if table.api_key_env is not None:
        api_key = environment.get(table.api_key_env)
        if not api_key:
            problem = f"{table.api_key_env} is not set: set it to the upstream's API key"
            raise GatewayConfigError(f"{where}.api_key_env: {problem}")
    return Upstream(
        provider=table.provider,
        base_url=_url(table.base_url, f"{where}.base_url"),
        models=tuple(table.models),
        api_key=api_key,
        forward_headers=tuple(pattern.lower() for pattern in table.forward_headers),
        connect_timeout_seconds=seconds(table.connect_timeout_seconds, f"{where}.connect_timeout_seconds"),
        read_timeout_seconds=seconds(table.read_timeout_seconds, f"{where}.read_timeout_seconds"),
        drain_seconds=seconds(table.drain_seconds, f"{where}.drain_seconds") if table.drain_seconds else 0.0,
        include_usage=table.include_usage,
        api_key_header=_key_header(table.api_key_header, f"{where}.api_key_header"),
    )


_KEY_HEADERS = ("authorization", "api-key", "x-api-key")


def _key_header(value: str | None, where: str) -> str | None:
    if value is None:
        return None
    if value.lower() not in _KEY_HEADERS:
        raise GatewayConfigError(f"{where}: expected one of {', '.join(_KEY_HEADERS)}, got {value!r}")
    return value.lower()


def _client_key(table: _KeyTable, where: str) -> ClientKey:
    if not 1 <= len(table.customer_id) <= 128:
        raise GatewayConfigError(f"{where}.customer_id: name the customer who pays in 1 to 128 characters")
    if table.api_key_id is not None and not 1 <= len(table.api_key_id) <= 128:
        raise GatewayConfigError(f"{where}.api_key_id: use 1 to 128 characters, or leave it out")
    if (table.key is None) == (table.key_sha256 is None):
        raise GatewayConfigError(f"{where}: give either key or key_sha256")
    if table.key_sha256 is not None:
        digest = table.key_sha256.lower()
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise GatewayConfigError(f"{where}.key_sha256: expected the 64 hex digits of a SHA-256 hash")
    elif table.key:
        digest = hash_key(table.key)
    else:
        raise GatewayConfigError(f"{where}.key: is empty; use for instance gk_ and 32 random characters")
    return ClientKey(key_sha256=digest, customer_id=table.customer_id, api_key_id=table.api_key_id)


def hash_key(key: str) -> str:
    """The `key_sha256` of a key."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _url(value: str, where: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise GatewayConfigError(f"{where}: expected a URL such as https://api.example.com/v1, got {value!r}")
    return value.rstrip("/")


def _port(value: str) -> int:
    if not value.isdecimal() or not 0 <= int(value) <= 65_535:
        raise GatewayConfigError(f"{PREFIX}PORT: expected a number from 0 to 65535, got {value!r}")
    return int(value)


def _key_file(environment: Mapping[str, str]) -> Path | None:
    name = f"{PREFIX}INGEST_KEY_FILE"
    value = environment.get(name)
    if not value:
        return None
    if environment.get(f"{PREFIX}INGEST_KEY"):
        raise GatewayConfigError(f"{name} and {PREFIX}INGEST_KEY are both set: set one of them")
    try:
        empty = not Path(value).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayConfigError(f"{name}={value}: cannot be read: {error}") from error
    if empty:
        raise GatewayConfigError(f"{name}={value}: is empty; put {_INGEST_KEY} into it")
    return Path(value)


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(filter(None, (each.strip().rstrip("/") for each in value.split(","))))
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path):
            expected = "expected origins such as https://app.example.com, separated by commas, or *"
            raise GatewayConfigError(f"{PREFIX}CORS_ORIGINS: {expected}; got {origin!r}")
    return origins


def _default_spool(environment: Mapping[str, str]) -> Path:
    state = environment.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "metering" / "gateway-spool"
