"""Messages about budgets that need no alert: what they say, and which of them are the same."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from metering.alerts.budget_messages import ExhaustedBudget, exhausted_message, refused_message
from metering.alerts.deliveries import Message
from metering.budgets.budget import BudgetAction, Standing
from metering.budgets.refusals import Refusals

NOW = datetime(2026, 11, 23, 15, 31, 2, tzinfo=UTC)
STANDING = Standing(
    budget_id="acme-monthly",
    limit_usd_cents=Decimal("50000.0"),
    spent_usd_cents=Decimal("49999.50"),
    held_usd_cents=Decimal("0.25"),
    starts_at=datetime(2026, 11, 1, tzinfo=UTC),
    resets_at=datetime(2026, 12, 1, tzinfo=UTC),
)
REFUSALS = Refusals(
    customer_id="acme",
    budget_id="acme-monthly",
    minute=datetime(2026, 11, 23, 15, 30, tzinfo=UTC),
    refusal_count=10_000,
    refused_customer_id="acme",
    stream_id="s",
    provider="anthropic",
    model="claude-opus-4.7",
    needed_usd_cents=Decimal("10.6460"),
    standing=STANDING,
)
FIGURES = {
    "budget_id": "acme-monthly",
    "limit_usd_cents": "50000",
    "spent_usd_cents": "49999.5",
    "held_usd_cents": "0.25",
    "headroom_usd_cents": "0.25",
    "resets_at": "2026-12-01T00:00:00Z",
}


def exhausted(standing: Standing = STANDING, *, customer_id: str = "acme", window: str = "w") -> ExhaustedBudget:
    return ExhaustedBudget(
        customer_id=customer_id, alert_window=window, action=BudgetAction.WARN, standing=standing
    )


def body(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.body)
    return found


def test_refused_holds_are_one_message_with_the_first_of_them() -> None:
    message = refused_message(REFUSALS, now=NOW)
    assert (message.type, message.customer_id) == ("hold.refused", "acme")
    assert body(message) == {
        "type": "hold.refused",
        "timestamp": "2026-11-23T15:31:02Z",
        "version": 1,
        "data": {
            "minute": "2026-11-23T15:30:00Z",
            "refusal_count": 10_000,
            "customer_id": "acme",
            "stream_id": "s",
            "provider": "anthropic",
            "model": "claude-opus-4.7",
            "needed_usd_cents": "10.646",
            **FIGURES,
        },
    }


def test_refusals_by_a_budget_of_the_deployment_name_the_customer_who_was_refused() -> None:
    message = refused_message(replace(REFUSALS, customer_id="", refused_customer_id="bolt"), now=NOW)
    assert (message.customer_id, body(message)["data"]["customer_id"]) == ("bolt", "bolt")


def test_an_exhausted_budget_says_which_and_what_happens_to_what_does_not_fit() -> None:
    message = exhausted_message(exhausted(), now=NOW)
    assert (message.type, message.customer_id) == ("budget.exhausted", "acme")
    assert body(message)["data"] == {
        "customer_id": "acme",
        "action": "warn",
        "window_starts_at": "2026-11-01T00:00:00Z",
        **FIGURES,
    }


def test_all_time_has_no_bounds_and_the_deployment_is_no_customer() -> None:
    ever = replace(STANDING, starts_at=None, resets_at=None)
    data = body(exhausted_message(exhausted(ever, customer_id=""), now=NOW))["data"]
    assert (data["customer_id"], data["window_starts_at"], data["resets_at"]) == (None, None, None)


def test_the_same_is_the_same_message_whenever_it_is_made_and_anything_else_is_another() -> None:
    later = NOW + timedelta(hours=1)
    more = replace(REFUSALS, refusal_count=20_000)
    assert refused_message(REFUSALS, now=NOW).message_id == refused_message(more, now=later).message_id
    spent_more = replace(STANDING, spent_usd_cents=Decimal(60_000))
    same = {
        exhausted_message(exhausted(each), now=at).message_id
        for each, at in ((STANDING, NOW), (spent_more, later))
    }
    assert len(same) == 1
    others = [
        exhausted_message(exhausted(), now=NOW),
        exhausted_message(exhausted(window="x"), now=NOW),
        exhausted_message(exhausted(customer_id="bolt"), now=NOW),
        refused_message(REFUSALS, now=NOW),
        refused_message(replace(REFUSALS, budget_id="other"), now=NOW),
        refused_message(replace(REFUSALS, minute=REFUSALS.minute + timedelta(minutes=1)), now=NOW),
        refused_message(replace(REFUSALS, stream_id="late"), now=NOW),
    ]
    assert len({each.message_id for each in others}) == len(others)


@given(st.decimals(0, 10**9, places=6), st.decimals(-(10**9), 10**9, places=6), st.decimals(0, 10**6, places=6))
def test_headroom_is_exact_in_every_message(limit: Decimal, spent: Decimal, held: Decimal) -> None:
    standing = replace(STANDING, limit_usd_cents=limit, spent_usd_cents=spent, held_usd_cents=held)
    for message in (
        exhausted_message(exhausted(standing), now=NOW),
        refused_message(replace(REFUSALS, standing=standing), now=NOW),
    ):
        data = {name: value for name, value in body(message)["data"].items() if name.endswith("_usd_cents")}
        parts = [Decimal(data[f"{name}_usd_cents"]) for name in ("spent", "held", "headroom")]
        assert sum(parts) == Decimal(data["limit_usd_cents"]) == limit
