"""Messages: what is said of a crossing, in figures that are cut off and never rounded up."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.alerts.alerts import DEPLOYMENT, Alert, AlertKind, AlertScope, AlertTerms
from metering.alerts.messages import Crossing, Measured, message_body, occurrence_of
from metering.alerts.windows import OpenWindow, Window
from metering.budgets.budget import Standing

NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
WINDOW = Window(
    key="2026-11", starts_at=datetime(2026, 11, 1, 5, tzinfo=UTC), ends_at=datetime(2026, 12, 1, 5, tzinfo=UTC)
)
AMOUNTS = st.decimals(min_value=0, max_value=10**9, places=6)


def crossing(
    kind: AlertKind,
    *,
    customer_id: str = "acme",
    version: int = 1,
    threshold: str = "50",
    window: Window | OpenWindow = WINDOW,
    budget: Decimal = Decimal(200),
    **measured: Any,
) -> Crossing:
    terms = AlertTerms(
        kind=kind,
        scope=AlertScope.EACH_CUSTOMER,
        customer_id=None,
        thresholds=(Decimal(threshold),),
        budget_usd_cents=budget if kind is AlertKind.SPEND else None,
        trailing_days=7 if kind is AlertKind.DAILY_CHANGE else None,
    )
    alert = Alert(
        alert_id="alr_1",
        version=version,
        name="Watch",
        terms=terms,
        enabled=True,
        created_by="key",
        created_at=NOW,
        changed_at=NOW,
    )
    return Crossing(
        alert=alert,
        customer_id=customer_id,
        window=window,
        time_zone="America/New_York",
        threshold=Decimal(threshold),
        measured=Measured(**measured),
    )


def standing(limit: str) -> Standing:
    return Standing(
        budget_id="b",
        limit_usd_cents=Decimal(limit),
        spent_usd_cents=Decimal("49.999"),
        held_usd_cents=Decimal("1.50"),
        starts_at=None,
        resets_at=None,
    )


def said(of: Crossing, now: datetime = NOW) -> dict[str, Any]:
    return dict(occurrence_of(of, now=now).data)


def test_a_message_says_which_alert_of_whom_in_which_window() -> None:
    data = said(crossing(AlertKind.SPEND, threshold="50.0", usd_cents=Decimal(120)))
    assert (data["alert_id"], data["alert_version"], data["name"], data["scope"]) == (
        "alr_1",
        1,
        "Watch",
        "each_customer",
    )
    assert data["window"] == {
        "key": "2026-11",
        "starts_at": "2026-11-01T05:00:00Z",
        "ends_at": "2026-12-01T05:00:00Z",
        "time_zone": "America/New_York",
    }
    assert (data["customer_id"], data["threshold"], data["unit"]) == ("acme", "50", "percent_of_budget")
    assert said(crossing(AlertKind.DRIFT, customer_id=DEPLOYMENT))["customer_id"] is None


@given(AMOUNTS, st.decimals(min_value=1, max_value=10**9, places=2))
def test_a_percentage_has_two_digits_that_are_cut_off(spent: Decimal, budget: Decimal) -> None:
    value = Fraction(said(crossing(AlertKind.SPEND, usd_cents=spent, budget=budget))["value"])
    exact = Fraction(spent) * 100 / Fraction(budget)
    assert value <= exact < value + Fraction(1, 100)


@pytest.mark.parametrize(
    ("kind", "measured", "value"),
    [
        (AlertKind.SPEND, {"usd_cents": Decimal("199.999")}, "99.99"),
        (AlertKind.DAILY_CHANGE, {"usd_cents": Decimal(30), "before_usd_cents": Decimal(140)}, "50"),
        (AlertKind.DAILY_CHANGE, {"usd_cents": Decimal(10), "before_usd_cents": Decimal(140)}, "-50"),
        (AlertKind.DAILY_CHANGE, {"usd_cents": Decimal(10), "before_usd_cents": Decimal(0)}, None),
        (AlertKind.ESTIMATED_SHARE, {"usd_cents": Decimal(3), "estimated_usd_cents": Decimal(1)}, "33.33"),
        (AlertKind.ESTIMATED_SHARE, {"usd_cents": Decimal(0)}, None),
        (AlertKind.DRIFT, {"usd_cents": Decimal("30.50")}, "30.5"),
        (AlertKind.BACKLOG_AGE, {"since": NOW - timedelta(hours=1, minutes=59, seconds=59)}, "1.99"),
        (AlertKind.BUDGET, {"usd_cents": Decimal("49.999"), "standing": standing("50")}, "99.99"),
        (AlertKind.BUDGET, {"usd_cents": Decimal(5), "standing": standing("0")}, None),
        (AlertKind.BALANCE_BELOW, {"usd_cents": Decimal("0.50")}, "0.5"),
    ],
)
def test_the_value_is_in_the_unit_of_the_threshold(
    kind: AlertKind, measured: dict[str, Any], value: str | None
) -> None:
    assert said(crossing(kind, **measured))["value"] == value


def test_each_kind_says_what_was_measured() -> None:
    assert (
        said(crossing(AlertKind.DRIFT, usd_cents=Decimal(30), count=2, reconciliation_id="rec_1")).items()
        >= {
            "reconciliation_id": "rec_1",
            "drift_usd_cents": "30",
            "finding_count": 2,
        }.items()
    )
    since = NOW.astimezone(ZoneInfo("Asia/Kathmandu"))
    assert (
        said(crossing(AlertKind.BACKLOG_AGE, since=since, count=3)).items()
        >= {
            "oldest_since": "2026-11-23T15:30:00Z",
            "stream_count": 3,
        }.items()
    )
    assert (
        said(crossing(AlertKind.BUDGET, usd_cents=Decimal("49.999"), standing=standing("50"))).items()
        >= {
            "budget_id": "b",
            "limit_usd_cents": "50",
            "spent_usd_cents": "49.999",
            "held_usd_cents": "1.5",
            "headroom_usd_cents": "-1.499",
            "resets_at": None,
        }.items()
    )
    low = {"usd_cents": Decimal(2), "limited_usd_cents": Decimal(5), "held_usd_cents": Decimal("2.5"), "count": 3}
    assert (
        said(crossing(AlertKind.BALANCE_BELOW, **low)).items()
        >= {
            "balance_usd_cents": "7",
            "limited_usd_cents": "5",
            "held_usd_cents": "2.5",
            "available_usd_cents": "0",
            "grant_count": 3,
        }.items()
    )
    assert said(crossing(AlertKind.SPEND, usd_cents=Decimal("1.50")))["spend_usd_cents"] == "1.5"
    assert said(crossing(AlertKind.DAILY_CHANGE, usd_cents=Decimal(1)))["trailing_days"] == 7
    assert said(crossing(AlertKind.ESTIMATED_SHARE, usd_cents=Decimal(1)))["total_usd_cents"] == "1"


def test_a_window_without_an_end_has_no_bounds() -> None:
    ever = crossing(AlertKind.BUDGET, window=OpenWindow(key="b/total/50"), standing=standing("50"))
    assert said(ever)["window"] == {
        "key": "b/total/50",
        "starts_at": None,
        "ends_at": None,
        "time_zone": "America/New_York",
    }


def test_the_same_crossing_is_the_same_occurrence_whenever_it_is_found() -> None:
    one = occurrence_of(crossing(AlertKind.SPEND, usd_cents=Decimal(120)), now=NOW)
    again = occurrence_of(crossing(AlertKind.SPEND, usd_cents=Decimal(130)), now=NOW + timedelta(hours=1))
    assert (one.occurrence_id, one.message_id) == (again.occurrence_id, again.message_id)


def test_another_customer_version_window_or_threshold_is_another_occurrence() -> None:
    december = Window(key="2026-12", starts_at=WINDOW.ends_at, ends_at=WINDOW.ends_at + timedelta(days=31))
    others = [{}, {"customer_id": "bolt"}, {"version": 2}, {"threshold": "80"}, {"window": december}]
    ids = {occurrence_of(crossing(AlertKind.SPEND, **each), now=NOW).occurrence_id for each in others}  # type: ignore[arg-type]
    assert len(ids) == len(others)


def test_a_message_is_compact_json_with_its_type_time_version_and_data() -> None:
    body = message_body(type="alert.spend", at=NOW.astimezone(ZoneInfo("Asia/Tokyo")), data={"a": "é"})
    assert body == '{"type":"alert.spend","timestamp":"2026-11-23T15:30:00Z","version":1,"data":{"a":"é"}}'
    assert json.loads(body)["data"] == {"a": "é"}
