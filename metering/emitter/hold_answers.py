"""What the service answers to a request for a hold, read leniently: missing and wrong fields are unknown."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from metering.emitter.hold import Hold, HoldBudget, HoldRefused, HoldRequest, PriceUnknown


def document_of(answer: bytes) -> Mapping[str, Any]:
    """The JSON object of an answer; empty if it is none."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def held(request: HoldRequest, document: Mapping[str, Any]) -> Hold:
    """The hold in an answer with the status 201."""
    listed = document.get("budgets")
    budgets = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return Hold(
        customer_id=request.customer_id,
        stream_id=request.stream_id,
        hold_id=_text(document.get("hold_id")),
        held_usd_cents=_amount(document.get("held_usd_cents")),
        max_output_tokens=_count(document.get("max_output_tokens")),
        expires_at=_time(document.get("expires_at")),
        budgets=tuple(
            HoldBudget(
                budget_id=str(each.get("budget_id", "")),
                headroom_usd_cents=_amount(each.get("headroom_usd_cents")) or Decimal(0),
                resets_at=_time(each.get("resets_at")),
            )
            for each in budgets
        ),
    )


def refusal(status: int, document: Mapping[str, Any]) -> HoldRefused:
    """Why a hold is refused, from a problem document."""
    kind = (_text(document.get("type")) or "").rpartition("/")[2]
    code = kind.replace("-", "_") or ("budget_exhausted" if status == 402 else f"http_{status}")
    detail = _text(document.get("detail")) or _text(document.get("title")) or f"the service answered {status}"
    if code == "price_unknown":
        return PriceUnknown(detail, code=code)
    return HoldRefused(
        detail,
        code=code,
        budget_id=_text(document.get("budget_id")),
        limit_usd_cents=_amount(document.get("limit_usd_cents")),
        spent_usd_cents=_amount(document.get("spent_usd_cents")),
        held_usd_cents=_amount(document.get("held_usd_cents")),
        needed_usd_cents=_amount(document.get("needed_usd_cents")),
        max_output_tokens_that_fit=_count(document.get("max_output_tokens_that_fit")),
        resets_at=_time(document.get("resets_at")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _amount(value: object) -> Decimal | None:
    if not isinstance(value, str):
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
