"""Settings: durations as people write them, and errors that name the variable."""

from datetime import timedelta

import pytest

from metering.config import ConfigurationError, load_settings


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


@pytest.mark.parametrize(
    ("name", "value"),
    [("ABANDON_AFTER", "soon"), ("PORT", "99999"), ("START_GRACE", "0s"), ("JOURNAL_RETENTION", "30d")],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"METERING_{name}", value)
    with pytest.raises(ConfigurationError, match=f"METERING_{name}: "):
        load_settings()
