"""Messages about budgets that need no alert: a budget is exhausted, and holds were refused."""

from dataclasses import dataclass
from datetime import datetime

from metering.alerts.deliveries import Message
from metering.alerts.messages import message_body, standing_data, time_text
from metering.budgets.budget import DEPLOYMENT, BudgetAction, Standing
from metering.budgets.refusals import Refusals
from metering.core.ids import digest
from metering.core.money import cents_text

BUDGET_EXHAUSTED = "budget.exhausted"
HOLD_REFUSED = "hold.refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExhaustedBudget:
    """A budget of which all is spent. `customer_id` is empty for one of the deployment.

    `alert_window` names the budget, its window and its limit: it is announced once for each.
    """

    customer_id: str
    alert_window: str
    action: BudgetAction
    standing: Standing


def exhausted_message(exhausted: ExhaustedBudget, *, now: datetime) -> Message:
    """The message that a budget is exhausted."""
    standing = exhausted.standing
    data = {
        "customer_id": None if exhausted.customer_id == DEPLOYMENT else exhausted.customer_id,
        "action": exhausted.action.value,
        "window_starts_at": None if standing.starts_at is None else time_text(standing.starts_at),
        **standing_data(standing),
    }
    return Message(
        message_id=f"msg_{digest(BUDGET_EXHAUSTED, exhausted.customer_id, exhausted.alert_window)}",
        type=BUDGET_EXHAUSTED,
        customer_id=exhausted.customer_id,
        body=message_body(type=BUDGET_EXHAUSTED, at=now, data=data),
    )


def refused_message(refusals: Refusals, *, now: datetime) -> Message:
    """The message about the holds that a budget refused in a minute.

    A minute whose message was sent can get another refusal, from a process whose clock is behind. Its stream tells
    that message from the first.
    """
    minute = time_text(refusals.minute)
    data = {
        "minute": minute,
        "refusal_count": refusals.refusal_count,
        "customer_id": refusals.refused_customer_id,
        "stream_id": refusals.stream_id,
        "provider": refusals.provider,
        "model": refusals.model,
        "needed_usd_cents": cents_text(refusals.needed_usd_cents),
        **standing_data(refusals.standing),
    }
    mark = digest(HOLD_REFUSED, refusals.budget_id, minute, refusals.refused_customer_id, refusals.stream_id)
    return Message(
        message_id=f"msg_{mark}",
        type=HOLD_REFUSED,
        customer_id=refusals.refused_customer_id,
        body=message_body(type=HOLD_REFUSED, at=now, data=data),
    )
