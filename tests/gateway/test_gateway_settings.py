"""A configuration that is wrong says which field and what to do."""

from decimal import Decimal
from pathlib import Path

import pytest

from metering.gateway import GatewayConfigError, settings_from_environment
from metering.gateway.hold_settings import GatewayHolds
from metering.gateway.settings import hash_key

_UPSTREAM = (
    '[[upstreams]]\nprovider = "anthropic"\nbase_url = "https://api.example.com/v1/"\nmodels = ["claude-*"]\n'
)
_KEY = '[[keys]]\nkey = "gk_1"\ncustomer_id = "acme"\napi_key_id = "acme-prod"\n'


def _environment(tmp_path: Path, toml: str, **more: str) -> dict[str, str]:
    path = tmp_path / "gateway.toml"
    path.write_text(toml)
    return {"METERING_GATEWAY_CONFIG": str(path), "METERING_GATEWAY_INGEST_KEY": "mk_1_s", **more}


def test_a_configuration_is_read(tmp_path: Path) -> None:
    toml = _UPSTREAM + 'api_key_env = "UPSTREAM_KEY"\nforward_headers = ["X-Upstream-*"]\n' + _KEY
    environment = _environment(tmp_path, toml, UPSTREAM_KEY="sk-1", METERING_GATEWAY_PORT="9000")
    settings = settings_from_environment(environment=environment)
    [upstream] = settings.upstreams
    assert (upstream.base_url, upstream.api_key) == ("https://api.example.com/v1", "sk-1")
    assert (upstream.models, upstream.forward_headers) == (("claude-*",), ("x-upstream-*",))
    assert (upstream.connect_timeout_seconds, upstream.read_timeout_seconds) == (10.0, 600.0)
    [key] = settings.keys
    assert (key.key_sha256, key.customer_id, key.api_key_id) == (hash_key("gk_1"), "acme", "acme-prod")
    assert (settings.metering_url, settings.host, settings.port) == ("http://127.0.0.1:8000", "127.0.0.1", 9000)
    assert settings.source.startswith("/gateways/")


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("nonsense = [", "not valid TOML"),
        (_KEY, "missing required field `upstreams`"),
        ("upstreams = []\nkeys = []", r"upstreams: add at least one"),
        (_UPSTREAM + "[keys]\n", r"keys"),
        (_UPSTREAM.replace("https", "ftp") + _KEY, r"upstreams\[0\].base_url: expected a URL"),
        (_UPSTREAM.replace('["claude-*"]', "[]") + _KEY, r"upstreams\[0\].models: list at least one"),
        (_UPSTREAM + "colour = 1\n" + _KEY, "colour"),
        (_UPSTREAM + 'api_key_env = "NOT_THERE"\n' + _KEY, "NOT_THERE is not set"),
        (_UPSTREAM + 'api_key_env = "A"\napi_key = "b"\n' + _KEY, "api_key or api_key_env, not both"),
        (_UPSTREAM + "read_timeout_seconds = 0\n" + _KEY, "read_timeout_seconds: expected a number"),
        (_UPSTREAM + "drain_seconds = -1\n" + _KEY, "drain_seconds: expected a number"),
        (_UPSTREAM + '[[keys]]\ncustomer_id = "acme"\n', r"keys\[0\]: give either key or key_sha256"),
        (_UPSTREAM + '[[keys]]\ncustomer_id = ""\nkey = "k"\n', r"keys\[0\].customer_id"),
        (_UPSTREAM + '[[keys]]\ncustomer_id = "a"\nkey = ""\n', r"keys\[0\].key: is empty"),
        (_UPSTREAM + '[[keys]]\ncustomer_id = "a"\nkey_sha256 = "zz"\n', r"keys\[0\].key_sha256: expected the 64"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, toml: str, complaint: str) -> None:
    with pytest.raises(GatewayConfigError, match=complaint):
        settings_from_environment(environment=_environment(tmp_path, toml))


@pytest.mark.parametrize(("value", "seconds"), [("", 86_400.0), ("0", 0.0), ("3600", 3_600.0)])
def test_acknowledged_events_are_kept_for_a_day_unless_told_otherwise(
    tmp_path: Path, value: str, seconds: float
) -> None:
    environment = _environment(tmp_path, _UPSTREAM + _KEY, METERING_GATEWAY_KEEP_SENT_SECONDS=value)
    assert settings_from_environment(environment=environment).keep_sent_seconds == seconds
    with pytest.raises(GatewayConfigError, match="KEEP_SENT_SECONDS"):
        settings_from_environment(environment={**environment, "METERING_GATEWAY_KEEP_SENT_SECONDS": "a day"})


def test_missing_variables_are_named(tmp_path: Path) -> None:
    environment = _environment(tmp_path, _UPSTREAM + _KEY)
    with pytest.raises(GatewayConfigError, match="METERING_GATEWAY_CONFIG is not set"):
        settings_from_environment(environment={})
    with pytest.raises(GatewayConfigError, match="METERING_GATEWAY_INGEST_KEY is not set"):
        settings_from_environment(environment={**environment, "METERING_GATEWAY_INGEST_KEY": ""})
    with pytest.raises(GatewayConfigError, match="METERING_GATEWAY_PORT"):
        settings_from_environment(environment={**environment, "METERING_GATEWAY_PORT": "http"})
    with pytest.raises(GatewayConfigError, match="METERING_GATEWAY_URL"):
        settings_from_environment(environment={**environment, "METERING_GATEWAY_URL": "localhost"})
    with pytest.raises(GatewayConfigError, match="cannot be read"):
        settings_from_environment(environment={**environment, "METERING_GATEWAY_CONFIG": "missing.toml"})


def test_the_ingest_key_may_be_in_a_file_and_is_read_anew(tmp_path: Path) -> None:
    config, secret = tmp_path / "gateway.toml", tmp_path / "key"
    config.write_text(
        '[[upstreams]]\nprovider = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["*"]\n'
        '[[keys]]\nkey = "gk_1"\ncustomer_id = "acme"\n'
    )
    environment = {"METERING_GATEWAY_CONFIG": str(config), "METERING_GATEWAY_INGEST_KEY_FILE": str(secret)}
    with pytest.raises(GatewayConfigError, match="cannot be read"):
        settings_from_environment(environment=environment)
    secret.write_text("\n")
    with pytest.raises(GatewayConfigError, match="is empty; put a key of the metering API"):
        settings_from_environment(environment=environment)
    secret.write_text("mk_old_secret\n")
    settings = settings_from_environment(environment=environment)
    assert settings.current_ingest_key() == "mk_old_secret"
    secret.write_text("mk_new_secret\n")
    assert settings.current_ingest_key() == "mk_new_secret"
    with pytest.raises(GatewayConfigError, match="are both set: set one of them"):
        settings_from_environment(environment={**environment, "METERING_GATEWAY_INGEST_KEY": "mk_a_b"})


HOLDS = {
    "METERING_GATEWAY_HOLDS": "sliding",
    "METERING_GATEWAY_HOLD_SLICE_OUTPUT_TOKENS": "500",
    "METERING_GATEWAY_HOLD_LEASE_SECONDS": "60",
    "METERING_GATEWAY_HOLD_TIMEOUT_SECONDS": "2.5",
    "METERING_GATEWAY_FAIL_OPEN_USD_CENTS_PER_MINUTE": "300",
    "METERING_GATEWAY_FAIL_OPEN_USD_CENTS_PER_STREAM": "0.5",
}


def test_holds_are_off_until_they_are_turned_on(tmp_path: Path) -> None:
    toml = _UPSTREAM + _KEY
    for off in ({}, {"METERING_GATEWAY_HOLDS": "off"}, {"METERING_GATEWAY_HOLDS": ""}):
        assert settings_from_environment(environment=_environment(tmp_path, toml, **off)).holds is None
    plain = settings_from_environment(
        environment=_environment(tmp_path, toml, METERING_GATEWAY_HOLDS="worst_case")
    ).holds
    assert plain == GatewayHolds(mode="worst_case")
    assert plain.of_worker(4).fail_open_usd_cents_per_minute is None
    holds = settings_from_environment(environment=_environment(tmp_path, toml, **HOLDS)).holds
    assert holds == GatewayHolds(
        mode="sliding",
        slice_output_tokens=500,
        lease_seconds=60,
        timeout_seconds=2.5,
        fail_open_usd_cents_per_minute=Decimal(300),
        fail_open_usd_cents_per_stream=Decimal("0.5"),
    )
    # Workers do not know what the others let pass: each has its part.
    assert holds.of_worker(4).fail_open_usd_cents_per_minute == Decimal(75)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("HOLDS", "on", "HOLDS: expected off, worst_case or sliding, got 'on'"),
        ("HOLD_SLICE_OUTPUT_TOKENS", "0", "HOLD_SLICE_OUTPUT_TOKENS: expected a number from 1 to 1000000"),
        ("HOLD_LEASE_SECONDS", "7200", "HOLD_LEASE_SECONDS: expected a number from 1 to 3600"),
        ("HOLD_TIMEOUT_SECONDS", "61", "HOLD_TIMEOUT_SECONDS: expected at most 60, got 61"),
        (
            "FAIL_OPEN_USD_CENTS_PER_MINUTE",
            "-1",
            "FAIL_OPEN_USD_CENTS_PER_MINUTE: expected an amount of 0 or more",
        ),
        ("FAIL_OPEN_USD_CENTS_PER_STREAM", "much", "FAIL_OPEN_USD_CENTS_PER_STREAM: expected an amount of 0"),
    ],
)
def test_a_wrong_setting_of_holds_is_named(tmp_path: Path, name: str, value: str, complaint: str) -> None:
    environment = _environment(tmp_path, _UPSTREAM + _KEY, **{**HOLDS, f"METERING_GATEWAY_{name}": value})
    with pytest.raises(GatewayConfigError, match=complaint):
        settings_from_environment(environment=environment)


def test_every_setting_of_holds_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    assert [name for name in HOLDS if f"`{name}`" not in page] == []
