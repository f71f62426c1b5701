"""`metering balance` and `metering deferred-revenue`: what is left of grants, and of their price."""

from datetime import datetime
from typing import Annotated, Any

import typer

from metering.budgets.queries.holds import held_of
from metering.cli.known import customer_or_fail
from metering.cli.options import AsJson, Limit, OnlyCustomer, Period, time_text
from metering.cli.service import database
from metering.core.clock import utc_now
from metering.core.money import EXACT, ZERO, cents_text, sum_cents
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.credits.queries.balances import GrantBalance, balance_as_of, balance_now
from metering.credits.queries.deferred_revenue import (
    DeferredRevenue,
    deferred_revenue,
    deferred_revenue_in_all,
)
from metering.server.terminal.columns import dollars
from metering.server.terminal.output import print_json, show


def balance_command(
    customer_id: Annotated[str, typer.Argument(help="The customer.")],
    as_of: Annotated[datetime | None, typer.Option(help="A time in the past, in UTC. Default: now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a customer has left of its grants, and what of it expires when."""
    now = utc_now()
    at = as_of.replace(tzinfo=UTC_ZONE) if as_of else None
    with database() as connection:
        customer_or_fail(connection, customer_id)
        if at is not None and at < now:
            found, held = balance_as_of(connection, customer_id=customer_id, at=at), None
        else:
            at, found = now, balance_now(connection, customer_id=customer_id, at=now)
            held = held_of(connection, customer_id=customer_id)
    rows = [_grant_row(each) for each in found]
    effective = [each for each in found if each.grant.effective_from <= at]
    balance = sum_cents(each.balance_usd_cents for each in effective)
    free = sum_cents(each.balance_usd_cents for each in effective if not each.grant.limits.limited)
    available = None if held is None else max(EXACT.subtract(free, held), ZERO)
    if as_json:
        print_json(
            {
                "customer_id": customer_id,
                "as_of": time_text(at),
                "balance_usd_cents": cents_text(balance),
                "held_usd_cents": None if held is None else cents_text(held),
                "available_usd_cents": None if available is None else cents_text(available),
                "grants": rows,
            }
        )
        return
    show(rows, as_json=False, empty="nothing is left", important=("grant_id", "balance_usd_cents", "expires_at"))
    print()
    print(f"balance {dollars(balance)}")
    if held is not None and available is not None:
        print(f"held by open streams {dollars(held)}, available {dollars(available)}")


def deferred_revenue_command(
    period: Period,
    customer: OnlyCustomer = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """Show which part of the price of grants is deferred in a month, by grant and in all."""
    month, now = str(BillingPeriod.parse(period)), utc_now()
    with database() as connection:
        found = deferred_revenue(connection, period=month, customer_id=customer, now=now, after=None, limit=limit)
        in_all = deferred_revenue_in_all(connection, period=month, customer_id=customer, now=now)
    rows = [
        {"customer_id": each.customer_id, "grant_id": each.grant_id, **_month_row(each.revenue)} for each in found
    ]
    if as_json:
        print_json({"period": month, "in_all": _month_row(in_all), "grants": rows})
        return
    if rows:
        rows.append({"customer_id": "in all", "grant_id": "", **_month_row(in_all)})
    show(
        rows,
        as_json=False,
        empty=f"nothing was deferred in {month}",
        important=("customer_id", "grant_id", "opening_cents", "closing_cents"),
    )


def _grant_row(each: GrantBalance) -> dict[str, Any]:
    return {
        "grant_id": each.grant.grant_id,
        "balance_usd_cents": cents_text(each.balance_usd_cents),
        "expires_at": time_text(each.grant.expires_at),
        "priority": each.grant.priority,
        "effective_from": time_text(each.grant.effective_from),
        "models": list(each.grant.limits.models) or None,
        "providers": list(each.grant.limits.providers) or None,
    }


def _month_row(revenue: DeferredRevenue) -> dict[str, Any]:
    return {
        "opening_cents": revenue.opening_cents,
        "sold_cents": revenue.sold_cents,
        "recognised_cents": revenue.recognised_cents,
        "breakage_cents": revenue.breakage_cents,
        "refunded_cents": revenue.refunded_cents,
        "closing_cents": revenue.closing_cents,
    }
