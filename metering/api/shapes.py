"""The answers' shapes, as the contract has them: fields may be added, never renamed or removed."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from metering.core.money import EXACT, cents_text
from metering.customers.queries import CustomerView
from metering.events.events import Outcome
from metering.events.usage import Usage
from metering.ledger.entries import Adjustment, Charge, ManualAdjustment
from metering.ledger.queries.streams import StreamView
from metering.prices.rating import ChargeLine
from metering.streams.bill import Bill
from metering.streams.resolutions import Resolution
from metering.streams.settlement import State
from metering.streams.stream import StreamFacts, billable_usage
from metering.totals.queries.totals import TotalRow


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC, as `2026-11-23T15:00:00.123Z`."""
    utc = moment.astimezone(UTC)
    precision = "seconds" if not utc.microsecond else "microseconds" if utc.microsecond % 1000 else "milliseconds"
    return utc.isoformat(timespec=precision).replace("+00:00", "Z")


def stream_shape(view: StreamView, accrued: Bill | None) -> dict[str, Any]:
    """A stream: what it used and, once it is final, what it costs."""
    facts = view.stream.facts
    bill = view.newest_bill or accrued
    start = facts.start.event if facts.start else None
    end = facts.end.event if facts.end else None
    billable = billable_usage(facts)
    # Without an end, whatever is no longer open was swept.
    swept = end is None and view.stream.state is not State.OPEN
    ended_at = end.time if end else (facts.last_event_at if swept else None)
    outcome = end.outcome if end else (Outcome.ABANDONED if swept else None)
    cost = view.cost_usd_cents
    return {
        "customer_id": facts.customer_id,
        "stream_id": facts.stream_id,
        "state": view.stream.state.value,
        "state_reason": view.stream.state_reason,
        "outcome": outcome.value if outcome else None,
        "provider": start.provider if start else None,
        "model": start.model if start else None,
        "response_model": end.response_model if end else None,
        "api_key_id": start.api_key_id if start else None,
        "streaming": start.streaming if start else None,
        "tags": dict(start.tags) if start else {},
        "started_at": time_text(start.time) if start else None,
        "ended_at": time_text(ended_at) if ended_at else None,
        "usage": usage_shape(bill.usage if bill else billable.usage),
        "usage_source": (bill.usage_source if bill else billable.source).value,
        "input_unknown": bill.input_unknown if bill else billable.input_unknown,
        "delivered": _delivered(facts),
        "finish_reasons": list(end.finish_reasons) if end and end.finish_reasons is not None else None,
        "error_type": end.error_type if end else None,
        "service_tier": bill.service_tier if bill else None,
        "cancel_policy": bill.cancel_policy.value if bill else None,
        "cancel_policy_version": bill.cancel_policy_version if bill else None,
        "cost_usd_cents": cents_text(cost) if cost is not None else None,
        "accrued_usd_cents": cents_text(accrued.usd_cents) if accrued else None,
        "retry_of": bill.retry_of if bill else None,
        "resolution": resolution_shape(view.resolution) if view.resolution else None,
        "charge": charge_detail(view.charge) if view.charge else None,
        "adjustments": [
            *(adjustment_shape(adjustment) for adjustment in view.adjustments),
            *(manual_adjustment_shape(adjustment) for adjustment in view.manual_adjustments),
        ],
    }


def resolution_shape(resolution: Resolution) -> dict[str, Any]:
    """What an admin decided of a stream, and why."""
    return {
        "customer_id": resolution.customer_id,
        "stream_id": resolution.stream_id,
        "action": resolution.action.value,
        "reason": resolution.reason,
        "resolved_by": resolution.resolved_by,
        "resolved_at": time_text(resolution.resolved_at),
    }


def usage_shape(usage: Usage) -> dict[str, int]:
    """The counters on the bill: input and output always (0 where nobody reported them), others where known."""
    return {"input_tokens": 0, "output_tokens": 0, **usage.known()}


def _delivered(facts: StreamFacts) -> dict[str, int] | None:
    delivered = facts.delivered
    if delivered is None:
        return None
    counts = {"seq": delivered.seq, "output_tokens": delivered.output_tokens}
    if delivered.reasoning_output_tokens is not None:
        counts["reasoning_output_tokens"] = delivered.reasoning_output_tokens
    return counts


def charge_detail(charge: Charge) -> dict[str, Any]:
    """A charge inside its stream."""
    return {
        "charge_id": charge.charge_id,
        "booked_at": time_text(charge.booked_at),
        "period": charge.period,
        "rate_card_id": charge.bill.rate_card_id,
        "rated_model": charge.bill.rated_model,
        "model_rule": charge.bill.model_rule,
        "markup_percent": cents_text(charge.bill.markup_percent),
        "cost_usd_cents": cents_text(charge.bill.usd_cents),
        "lines": [line_shape(line) for line in charge.bill.lines],
    }


def line_shape(line: ChargeLine) -> dict[str, Any]:
    """One line of a charge: `usd_cents` = `quantity` x `usd_per_million` / 10,000."""
    return {
        "kind": line.kind.value,
        "quantity": line.quantity,
        "usd_per_million": cents_text(line.usd_per_million),
        "usd_cents": cents_text(line.usd_cents),
    }


def adjustment_shape(adjustment: Adjustment) -> dict[str, Any]:
    """A later difference, with the lines of the bill that holds since."""
    return {
        "adjustment_id": adjustment.adjustment_id,
        "charge_id": adjustment.charge_id,
        "revision": adjustment.revision,
        "booked_at": time_text(adjustment.booked_at),
        "period": adjustment.period,
        "reason": adjustment.reason.value,
        "usd_cents": cents_text(adjustment.usd_cents),
        "rate_card_id": adjustment.bill.rate_card_id if adjustment.bill else None,
        "lines": [line_shape(line) for line in adjustment.bill.lines] if adjustment.bill else [],
    }


def manual_adjustment_shape(adjustment: ManualAdjustment) -> dict[str, Any]:
    """A credit or a correction that an admin booked."""
    return {
        "adjustment_id": adjustment.adjustment_id,
        "customer_id": adjustment.customer_id,
        "stream_id": adjustment.stream_id,
        "booked_at": time_text(adjustment.booked_at),
        "booked_by": adjustment.booked_by,
        "period": adjustment.period,
        "reason": adjustment.kind.value,
        "note": adjustment.reason,
        "usd_cents": cents_text(adjustment.usd_cents),
    }


def charge_shape(charge: Charge) -> dict[str, Any]:
    """A charge in a list."""
    bill = charge.bill
    return {
        "customer_id": charge.customer_id,
        "stream_id": charge.stream_id,
        "outcome": bill.outcome.value,
        "provider": bill.provider,
        "model": bill.model,
        "response_model": bill.response_model,
        "api_key_id": bill.api_key_id,
        "started_at": time_text(bill.started_at),
        "ended_at": time_text(bill.ended_at),
        "usage": usage_shape(bill.usage),
        "usage_source": bill.usage_source.value,
        "input_unknown": bill.input_unknown,
        "service_tier": bill.service_tier,
        "cancel_policy": bill.cancel_policy.value,
        "cancel_policy_version": bill.cancel_policy_version,
        "retry_of": bill.retry_of,
        **charge_detail(charge),
    }


def total_shape(row: TotalRow, *, compared: bool = False) -> dict[str, Any]:
    """One group's totals. `start` is there with a granularity, `compared` with a range to compare with."""
    return {
        **({"start": time_text(row.start)} if row.start else {}),
        **row.group,
        "stream_count": row.stream_count,
        **row.counters,
        "cost_usd_cents": cents_text(row.usd_cents),
        "accrued_usd_cents": cents_text(row.accrued_usd_cents),
        "accruing_stream_count": row.accruing_stream_count,
        **({"compared": _compared_shape(row)} if compared else {}),
    }


def _compared_shape(row: TotalRow) -> dict[str, Any]:
    """The group's final totals in the range that was compared with, and what has changed since."""
    return {
        "stream_count": row.compared_stream_count,
        "cost_usd_cents": cents_text(row.compared_usd_cents),
        "change_usd_cents": cents_text(EXACT.subtract(row.usd_cents, row.compared_usd_cents)),
    }


def customer_shape(customer: CustomerView) -> dict[str, Any]:
    """A customer with the final amounts of the month so far."""
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "stripe_customer_id": customer.stripe_customer_id,
        "time_zone": customer.time_zone,
        "created_at": time_text(customer.created_at),
        "month_to_date": {"cost_usd_cents": cents_text(customer.month_to_date_usd_cents)},
    }


class Page(BaseModel):
    """A page of a list; ask for the next one with `cursor=next_cursor`."""

    data: list[dict[str, Any]]
    next_cursor: str | None


class TotalsPage(Page):
    """Totals; `as_of` is the moment that they show."""

    as_of: str


class CustomerInput(BaseModel):
    """What can be set of a customer; fields that are left out stay as they are."""

    name: str | None = Field(default=None, max_length=256)
    stripe_customer_id: str | None = Field(default=None, min_length=1, max_length=128)
    time_zone: str | None = Field(default=None, description="IANA name, such as Europe/Berlin")
