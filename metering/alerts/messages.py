"""Occurrences of alerts, and the messages that report them. docs/alerts.md describes the fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal
from functools import lru_cache
from typing import Any

import msgspec

from metering.alerts.alerts import DEPLOYMENT, UNITS, Alert, AlertKind
from metering.alerts.windows import OpenWindow, Window
from metering.budgets.budget import Standing
from metering.core.ids import digest
from metering.core.money import EXACT, ZERO, cents_text

# The message's version, not the API's: it is incremented when a field changes its meaning or is removed.
MESSAGE_VERSION = 1

# Percents and hours are truncated to two decimals. The comparison with the threshold was exact.
_SHOWN = Context(prec=60, rounding=ROUND_DOWN)
_TWO_DIGITS = Decimal("0.01")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures that were compared with a threshold; which of them are set depends on the kind of alert.

    `usd_cents` is the amount of the window, or the drift; `before_usd_cents` the amount of the days before the
    window; `estimated_usd_cents` the estimated part of `usd_cents`. `count` counts drift findings or streams in
    the backlog. `since` is when the oldest of these streams was first received. For new prices, `usd_cents` is the
    difference, `before_usd_cents` what last month cost, `estimated_usd_cents` what it would have cost, `count` the
    number of models, and `since` when the first of them was found. For contradictory usage, `count` counts
    streams, and `since` is the earliest end of one. For a budget, `usd_cents` is what is spent, and `standing` has
    all of its figures. For a balance, `usd_cents` is what is left of grants without limits, `limited_usd_cents` of
    the others, `held_usd_cents` what open streams hold, and `count` the number of grants without limits so far.
    """

    usd_cents: Decimal = ZERO
    before_usd_cents: Decimal = ZERO
    estimated_usd_cents: Decimal = ZERO
    count: int = 0
    since: datetime | None = None
    reconciliation_id: str | None = None
    standing: Standing | None = None
    limited_usd_cents: Decimal = ZERO
    held_usd_cents: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A threshold that a customer, or the deployment, reached in a window drawn in `time_zone`."""

    alert: Alert
    customer_id: str
    window: Window | OpenWindow
    time_zone: str
    threshold: Decimal
    measured: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """A crossing with its ids and the data of its message. The ids are derived from the crossing."""

    crossing: Crossing
    occurrence_id: str
    message_id: str
    occurred_at: datetime
    data: Mapping[str, Any]


def occurrence_of(crossing: Crossing, *, now: datetime) -> Occurrence:
    """The occurrence of a crossing."""
    mark = digest(
        crossing.customer_id,
        crossing.alert.alert_id,
        str(crossing.alert.version),
        crossing.window.key,
        cents_text(crossing.threshold),
    )
    occurrence_id = f"alo_{mark}"
    data = {"occurrence_id": occurrence_id, **_data(crossing, now)}
    return Occurrence(
        crossing=crossing, occurrence_id=occurrence_id, message_id=f"msg_{mark}", occurred_at=now, data=data
    )


def message_body(*, type: str, at: datetime, data: Mapping[str, Any]) -> str:
    """The body of a message as JSON; every delivery of the message sends these same bytes."""
    message = {"type": type, "timestamp": time_text(at), "version": MESSAGE_VERSION, "data": data}
    return _encode(message).decode()


def standing_data(standing: Standing) -> dict[str, str | None]:
    """The figures of a budget as messages have them, under the names of `GET /v1/budgets`."""
    return {
        "budget_id": standing.budget_id,
        "limit_usd_cents": cents_text(standing.limit_usd_cents),
        "spent_usd_cents": cents_text(standing.spent_usd_cents),
        "held_usd_cents": cents_text(standing.held_usd_cents),
        "headroom_usd_cents": cents_text(standing.headroom_usd_cents),
        "resets_at": None if standing.resets_at is None else time_text(standing.resets_at),
    }


@lru_cache(maxsize=1024)
def time_text(at: datetime) -> str:
    """RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _data(crossing: Crossing, now: datetime) -> dict[str, Any]:
    alert, window = crossing.alert, crossing.window
    return {
        "alert_id": alert.alert_id,
        "alert_version": alert.version,
        "name": alert.name,
        "scope": alert.terms.scope.value,
        "customer_id": None if crossing.customer_id == DEPLOYMENT else crossing.customer_id,
        "window": {
            "key": window.key,
            "starts_at": time_text(window.starts_at) if isinstance(window, Window) else None,
            "ends_at": time_text(window.ends_at) if isinstance(window, Window) else None,
            "time_zone": crossing.time_zone,
        },
        "threshold": cents_text(crossing.threshold),
        "value": _value(crossing, now),
        "unit": UNITS[alert.terms.kind],
        **_measured(crossing),
    }


def _value(crossing: Crossing, now: datetime) -> str | None:
    """The measured value in the unit of the threshold; None when there is nothing to compare it with."""
    measured, terms = crossing.measured, crossing.alert.terms
    match terms.kind:
        case AlertKind.SPEND:
            assert terms.budget_usd_cents is not None
            return _percent(measured.usd_cents, terms.budget_usd_cents)
        case AlertKind.DAILY_CHANGE:
            assert terms.trailing_days is not None
            times = _SHOWN.multiply(measured.usd_cents, Decimal(terms.trailing_days))
            return _percent(_SHOWN.subtract(times, measured.before_usd_cents), measured.before_usd_cents)
        case AlertKind.ESTIMATED_SHARE:
            return _percent(measured.estimated_usd_cents, measured.usd_cents)
        case AlertKind.BUDGET:
            assert measured.standing is not None
            return _percent(measured.usd_cents, measured.standing.limit_usd_cents)
        case AlertKind.DRIFT | AlertKind.PRICE_CHANGE | AlertKind.BALANCE_BELOW:
            return cents_text(measured.usd_cents)
        case AlertKind.INCONSISTENT_USAGE:
            return str(measured.count)
        case AlertKind.BACKLOG_AGE:
            assert measured.since is not None
            hundredths = (now - measured.since) * 100 // timedelta(hours=1)
            return cents_text(_SHOWN.scaleb(Decimal(hundredths), -2))


def _percent(part: Decimal, whole: Decimal) -> str | None:
    if whole <= 0:
        return None
    share = _SHOWN.divide(_SHOWN.multiply(part, Decimal(100)), whole)
    return cents_text(share.quantize(_TWO_DIGITS, context=_SHOWN))


def _measured(crossing: Crossing) -> dict[str, Any]:
    measured, terms = crossing.measured, crossing.alert.terms
    match terms.kind:
        case AlertKind.SPEND:
            assert terms.budget_usd_cents is not None
            return {
                "spend_usd_cents": cents_text(measured.usd_cents),
                "budget_usd_cents": cents_text(terms.budget_usd_cents),
                "accrued_included": False,
            }
        case AlertKind.DAILY_CHANGE:
            return {
                "day_usd_cents": cents_text(measured.usd_cents),
                "trailing_days": terms.trailing_days,
                "trailing_usd_cents": cents_text(measured.before_usd_cents),
                "accrued_included": False,
            }
        case AlertKind.ESTIMATED_SHARE:
            return {
                "estimated_usd_cents": cents_text(measured.estimated_usd_cents),
                "total_usd_cents": cents_text(measured.usd_cents),
                "accrued_included": False,
            }
        case AlertKind.DRIFT:
            return {
                "reconciliation_id": measured.reconciliation_id,
                "drift_usd_cents": cents_text(measured.usd_cents),
                "finding_count": measured.count,
            }
        case AlertKind.PRICE_CHANGE:
            assert measured.since is not None
            return {
                "found_at": time_text(measured.since),
                "change_count": measured.count,
                "last_month_usd_cents": cents_text(measured.before_usd_cents),
                "would_cost_usd_cents": cents_text(measured.estimated_usd_cents),
            }
        case AlertKind.INCONSISTENT_USAGE:
            assert measured.since is not None
            return {"first_ended_at": time_text(measured.since), "stream_count": measured.count}
        case AlertKind.BACKLOG_AGE:
            assert measured.since is not None
            return {"oldest_since": time_text(measured.since), "stream_count": measured.count}
        case AlertKind.BUDGET:
            assert measured.standing is not None
            return {**standing_data(measured.standing)}
        case AlertKind.BALANCE_BELOW:
            available = EXACT.subtract(measured.usd_cents, measured.held_usd_cents)
            return {
                "balance_usd_cents": cents_text(EXACT.add(measured.usd_cents, measured.limited_usd_cents)),
                "limited_usd_cents": cents_text(measured.limited_usd_cents),
                "held_usd_cents": cents_text(measured.held_usd_cents),
                "available_usd_cents": cents_text(max(available, ZERO)),
                "grant_count": measured.count,
            }
