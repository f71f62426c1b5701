"""Budgets on the dashboard: what is spent, held and left; set, changed and ended by forms."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from metering.access.scopes import Role
from metering.budgets.budget import Standing
from metering.core.clock import utc_now
from metering.dashboard.pages.budgets import runs_out
from tests.builders.posted import stream
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import hidden_fields, rows_of
from tests.running_api import Api, bill

FIELDS = {"budget_id": "acme-monthly", "customer_id": "acme", "window": "month", "usd": "$5", "action": "refuse"}
HOLD = {
    "customer_id": "acme",
    "stream_id": "open",
    "provider": "anthropic",
    "model": "claude-opus-4.7",
    "input_tokens": 812,
    "max_output_tokens": 100,
}


@pytest.fixture
def admin(api: Api) -> Browser:
    assert bill(api, just_now("s"))["cost_usd_cents"] == "0.4985"
    return browse(api)


def just_now(stream_id: str) -> list[dict[str, Any]]:
    """A stream in the window of a budget that is set now."""
    return stream(stream_id, time=(utc_now() - timedelta(seconds=10)).isoformat())


def set_budget(admin: Browser, **changes: str) -> httpx2.Response:
    page = admin.get("budgets").text
    return admin.http.post("/dashboard/budgets/set", data={**hidden_fields(page), **FIELDS, **changes})


def test_a_budget_is_set_and_shown_with_what_is_spent_and_held(api: Api, admin: Browser) -> None:
    answer = set_budget(admin)
    assert answer.status_code == 303
    assert "Budget acme-monthly set." in admin.http.get(answer.headers["location"]).text
    assert api.client.post("/v1/holds", json=HOLD).status_code == 201
    (row,) = rows_of(admin.get("budgets", csv="budgets").text)
    assert [row[name] for name in ("budget_id", "customer_id", "window")] == ["acme-monthly", "acme", "month"]
    figures = [Decimal(row[f"{name}_usd"]) for name in ("limit", "spent", "held", "headroom")]
    assert figures == [Decimal(5), Decimal("0.004985"), Decimal("0.00656"), Decimal("4.988455")]
    (hold,) = rows_of(admin.get("budgets", csv="holds").text)
    assert (hold["stream_id"], hold["state"]) == ("open", "open")


def test_a_budget_is_changed_and_ended_from_its_row(api: Api, admin: Browser) -> None:
    set_budget(admin)
    page = admin.get("budgets", budget="acme-monthly").text
    assert "Change acme-monthly" in page
    assert 'placeholder="500.00" value="5"' in page
    assert set_budget(admin, usd="7.5", action="warn").status_code == 303
    changed = api.client.get("/v1/budgets/acme-monthly").json()
    assert (changed["limit_usd_cents"], changed["action"], changed["version"]) == ("750", "warn", 2)
    form = {**hidden_fields(page), "budget_id": "acme-monthly"}
    assert admin.http.post("/dashboard/budgets/end", data={**form, "confirm": "x"}).status_code == 422
    assert admin.http.post("/dashboard/budgets/end", data={**form, "confirm": "acme-monthly"}).status_code == 303
    assert api.client.get("/v1/budgets/acme-monthly").status_code == 404


def test_what_is_booked_without_a_hold_is_listed_with_its_reason(api: Api, admin: Browser) -> None:
    set_budget(admin)
    bill(api, just_now("t"))
    (row,) = rows_of(admin.get("budgets", csv="overruns").text)
    assert (row["stream_id"], row["reason"], Decimal(row["beyond_usd"])) == ("t", "no hold", Decimal("0.004985"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget_id": ""}, "budget_id"),
        ({"usd": "lots"}, "usd"),
        ({"usd": ""}, "limit_usd_cents: required"),
        ({"customer_id": "", "tag": "team=x"}, "customer_id"),
        ({"customer_id": "nosuch"}, "customer_id: there is no customer"),
        ({"tag": "team"}, "tag"),
        ({"tag": "team=x", "api_key_id": "k"}, "tag"),
        ({"window": "year"}, "window"),
        ({"action": "sleep"}, "action"),
    ],
)
def test_a_form_that_is_not_valid_is_refused_by_name(admin: Browser, changes: dict[str, str], says: str) -> None:
    answer = set_budget(admin, **changes)
    assert answer.status_code == 422
    assert says in answer.text


def test_a_customer_sees_its_own_budgets_and_no_form(api: Api, admin: Browser) -> None:
    set_budget(admin)
    set_budget(admin, budget_id="everything", customer_id="")
    own = browse(api, Role.READ, "acme")
    page = own.get("budgets").text
    assert "acme-monthly" in page
    assert "everything" not in page
    assert "Set a budget" not in page


def test_a_budget_runs_out_at_the_rate_of_its_window() -> None:
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    now, reset = begin + timedelta(days=10), datetime(2026, 12, 1, tzinfo=UTC)

    def at(spent: str, held: str = "0") -> datetime | None:
        standing = Standing(
            budget_id="b",
            limit_usd_cents=Decimal(100),
            spent_usd_cents=Decimal(spent),
            held_usd_cents=Decimal(held),
            starts_at=begin,
            resets_at=reset,
        )
        return runs_out(standing, now=now)

    assert at("50") == now + timedelta(days=10)
    assert at("20") is None
    assert at("0") is None
    assert at("50", held="50") is None
