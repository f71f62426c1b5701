"""Settings: durations as people write them, and errors that name the variable."""

from datetime import timedelta

import pytest

from metering.server.settings import ConfigurationError, load_settings


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("900", timedelta(minutes=15)),
        ("15m", timedelta(minutes=15)),
        ("500ms", timedelta(milliseconds=500)),
        ("24h", timedelta(days=1)),
        ("7 d", timedelta(days=7)),
    ],
)
def test_durations_are_read_as_written(monkeypatch: pytest.MonkeyPatch, written: str, meant: timedelta) -> None:
    monkeypatch.setenv("METERING_ABANDON_AFTER", written)
    assert load_settings().abandon_after == meant


def test_a_setting_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "")
    monkeypatch.setenv("METERING_PORT", "")
    assert load_settings().stripe_api_key is None
    assert load_settings().port == 8000


def test_stripes_settings_keep_stripes_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_x")
    key = load_settings().stripe_api_key
    assert key is not None
    assert key.get_secret_value() == "sk_test_x"
    assert "sk_test_x" not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ABANDON_AFTER", "soon"),
        ("PORT", "99999"),
        ("START_GRACE", "0s"),
        ("JOURNAL_RETENTION", "30d"),
        ("ACCESS_LOG_PROVIDERS", "tars"),
        ("LITELLM_CUSTOMER", "team, boss"),
        ("LITELLM_TAGS", "colour"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"METERING_{name}", value)
    with pytest.raises(ConfigurationError, match=f"METERING_{name}: "):
        load_settings()
