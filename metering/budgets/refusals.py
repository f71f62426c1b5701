"""Refusals: what a budget refused in a minute, so that 10,000 refused holds are one message and not 10,000."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.budget import Standing
from metering.budgets.holds import HoldRequest


class Refusals(Struct, frozen=True, kw_only=True):
    """How many holds a budget refused in the minute that starts at `minute`, and the first of them.

    `customer_id` is the budget's, and empty for one of the deployment. The other fields are those of the first
    refused hold: its stream, what it needed in exact cents, and the figures of the budget at that moment.
    """

    customer_id: str
    budget_id: str
    minute: datetime
    refusal_count: int
    refused_customer_id: str
    stream_id: str
    provider: str
    model: str
    needed_usd_cents: Decimal
    standing: Standing


def minute_of(at: datetime) -> datetime:
    """The start of the minute that contains `at`."""
    return at.replace(second=0, microsecond=0)


def refusals_of(answers: Iterable[tuple[HoldRequest, object]], *, now: datetime) -> list[Refusals]:
    """The refusals among the answers to a group of requests, one for each budget that refused some of them."""
    found: dict[str, Refusals] = {}
    for request, answer in answers:
        if not isinstance(answer, BudgetExhaustedError):
            continue
        budget_id = answer.budget.budget_id
        first = found.get(budget_id)
        if first is None:
            found[budget_id] = _first(request, answer, now)
        else:
            found[budget_id] = replace(first, refusal_count=first.refusal_count + 1)
    return list(found.values())


def _first(request: HoldRequest, refused: BudgetExhaustedError, now: datetime) -> Refusals:
    return Refusals(
        customer_id=refused.budget.scope.customer_id,
        budget_id=refused.budget.budget_id,
        minute=minute_of(now),
        refusal_count=1,
        refused_customer_id=request.customer_id,
        stream_id=request.stream_id,
        provider=request.provider,
        model=request.model,
        needed_usd_cents=refused.needed_usd_cents,
        standing=refused.standing,
    )
