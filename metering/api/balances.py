"""Balances of prepaid customers, and the deferred revenue of grants."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import BookedBy, Cents, CustomerId, Month, Time, described, optional_time, time_text
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, NextCursor, cursor_of, page_of
from metering.api.parameters import (
    WHOLE_NUMBER,
    CentsInput,
    CustomerFilter,
    Db,
    Id,
    Input,
    RequiredMonth,
    TheService,
    Timestamp,
)
from metering.api.problems import NotFoundError
from metering.api.routes import raises, route_ending_in, v1_router
from metering.budgets.queries.holds import held_of
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, decode_cursor
from metering.core.money import EXACT, ZERO, cents_text, sum_cents
from metering.core.period import BillingPeriod
from metering.credits.buy_top_ups import set_top_up
from metering.credits.queries.balances import GrantBalance, balance_as_of, balance_now
from metering.credits.queries.deferred_revenue import (
    DeferredRevenue,
    GrantRevenue,
    deferred_revenue,
    deferred_revenue_in_all,
)
from metering.credits.store.top_ups import find_top_up
from metering.credits.top_up import MAX_A_DAY, InvalidTopUpError
from metering.credits.top_up import TopUp as StoredTopUp
from metering.customers.store import UnknownCustomerError, is_customer

_BALANCE, _TOP_UP = "/balance", "/top-up"

top_up_router = v1_router("credits", route_class=route_ending_in(_TOP_UP))
balance_router = v1_router("credits", route_class=route_ending_in(_BALANCE))
router = v1_router("credits")


class BalanceOfGrant(TypedDict):
    """What is left of a grant."""

    grant_id: Annotated[str, described("The grant.", example="gr_5d4c0a9b")]
    balance_usd_cents: Annotated[Cents, described("What is left of it.", example="8123.4985")]
    priority: Annotated[int, described("Grants with a lower number pay first.")]
    effective_from: Annotated[Time, described("From when on it pays.")]
    expires_at: Annotated[Time | None, described("When what is left expires; null: never.")]
    limited: Annotated[bool, described("Whether it pays for some providers or models only.")]


class Balance(TypedDict):
    """What a customer has left of its grants.

    `available_usd_cents` is what the next stream of any model may cost: the balance, without grants that are
    limited to some models, minus what is held.
    """

    customer_id: CustomerId
    as_of: Annotated[Time, described("The time of these figures.")]
    balance_usd_cents: Annotated[
        Cents, described("What is left of grants that are effective.", example="8123.4985")
    ]
    limited_usd_cents: Annotated[Cents, described("The part of it that pays for some models only.")]
    held_usd_cents: Annotated[Cents | None, described("What open streams hold; null for a time in the past.")]
    available_usd_cents: Annotated[Cents | None, described("What may be spent; null for a time in the past.")]
    upcoming_usd_cents: Annotated[Cents, described("What is left of grants that are not effective yet.")]
    grants: Annotated[list[BalanceOfGrant], described("The grants with something left, in the order of drawing.")]


class DeferredMonth(TypedDict):
    """A month: opening + sold - recognised - breakage - refunded = closing, in whole cents."""

    opening_cents: Annotated[int, described("What is deferred at the start of the month.", example=1000)]
    sold_cents: Annotated[int, described("The price of grants that became active.")]
    recognised_cents: Annotated[int, described("The part of the price of what was drawn.", example=231)]
    breakage_cents: Annotated[int, described("The part of the price of what expired.")]
    refunded_cents: Annotated[int, described("The part of the price of what was refunded or voided.")]
    closing_cents: Annotated[int, described("What is deferred at the end of the month.", example=769)]


class DeferredGrant(DeferredMonth):
    """A grant's month."""

    customer_id: CustomerId
    grant_id: Annotated[str, described("The grant.", example="gr_5d4c0a9b")]


class DeferredPage(TypedDict):
    """Grants with something deferred in a month, and the sum over all of them, not only those of this page."""

    period: Month
    in_all: Annotated[DeferredMonth, described("The sum of all grants.")]
    data: Annotated[list[DeferredGrant], described("The grants of this page.")]
    next_cursor: NextCursor


_CustomerPath = Annotated[
    Id, Path(description="The customer; a slash in the id is written `%2F`.", examples=["acme"])
]


@balance_router.get(
    "/customers/{customer_id:id}/balance", operation_id="getBalance", summary="Get a customer's balance"
)
@needs(Scope.CREDITS_READ)
@raises(NotFoundError)
def read_balance(
    customer_id: _CustomerPath,
    key: Caller,
    connection: Db,
    as_of: Annotated[
        Timestamp | None, Query(description="A time in the past. Default: now.", examples=["2026-11-30T00:00:00Z"])
    ] = None,
) -> Balance:
    """What is left of a customer's grants: now, or as it was at a time in the past."""
    require_customer(key, customer_id)
    if not is_customer(connection, customer_id=customer_id):
        raise NotFoundError(f"there is no customer {customer_id!r}")
    now = utc_now()
    if as_of is not None and as_of < now:
        return balance_shape(customer_id, balance_as_of(connection, customer_id=customer_id, at=as_of), at=as_of)
    found = balance_now(connection, customer_id=customer_id, at=now)
    return balance_shape(customer_id, found, at=now, held=held_of(connection, customer_id=customer_id))


def balance_shape(
    customer_id: str, found: Sequence[GrantBalance], *, at: datetime, held: Decimal | None = None
) -> Balance:
    """What a customer has left of its grants at a time; `held` for the present only."""
    effective = [each for each in found if each.grant.effective_from <= at]
    balance = sum_cents(each.balance_usd_cents for each in effective)
    limited = sum_cents(each.balance_usd_cents for each in effective if each.grant.limits.limited)
    upcoming = sum_cents(each.balance_usd_cents for each in found if each.grant.effective_from > at)
    free = None if held is None else EXACT.subtract(EXACT.subtract(balance, limited), held)
    return {
        "customer_id": customer_id,
        "as_of": time_text(at),
        "balance_usd_cents": cents_text(balance),
        "limited_usd_cents": cents_text(limited),
        "held_usd_cents": None if held is None else cents_text(held),
        "available_usd_cents": None if free is None else cents_text(max(free, ZERO)),
        "upcoming_usd_cents": cents_text(upcoming),
        "grants": [
            {
                "grant_id": each.grant.grant_id,
                "balance_usd_cents": cents_text(each.balance_usd_cents),
                "priority": each.grant.priority,
                "effective_from": time_text(each.grant.effective_from),
                "expires_at": optional_time(each.grant.expires_at),
                "limited": each.grant.limits.limited,
            }
            for each in found
        ],
    }


@router.get("/deferred-revenue", operation_id="listDeferredRevenue", summary="List deferred revenue")
@needs(Scope.CREDITS_READ)
def read_deferred_revenue(
    key: Caller,
    connection: Db,
    period: RequiredMonth,
    customer_id: CustomerFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TEXT, TEXT)] = None,
) -> DeferredPage:
    """The deferred part of the price of grants in a month, by grant, and in all. Promotional grants have none."""
    position = decode_cursor(cursor, length=2)
    month, now = str(BillingPeriod.parse(period)), utc_now()
    customer = require_customer(key, customer_id)
    page = page_of(
        deferred_revenue(
            connection,
            period=month,
            customer_id=customer,
            now=now,
            after=(position[0], position[1]) if position else None,
            limit=limit + 1,
        ),
        limit=limit,
        shape=_deferred_grant,
        position=lambda each: [each.customer_id, each.grant_id],
    )
    in_all = deferred_revenue_in_all(connection, period=month, customer_id=customer, now=now)
    return {
        "period": month,
        "in_all": month_shape(in_all),
        "data": page["data"],
        "next_cursor": page["next_cursor"],
    }


def month_shape(revenue: DeferredRevenue) -> DeferredMonth:
    """A month of deferred revenue."""
    return {
        "opening_cents": revenue.opening_cents,
        "sold_cents": revenue.sold_cents,
        "recognised_cents": revenue.recognised_cents,
        "breakage_cents": revenue.breakage_cents,
        "refunded_cents": revenue.refunded_cents,
        "closing_cents": revenue.closing_cents,
    }


def _deferred_grant(each: GrantRevenue) -> DeferredGrant:
    return {"customer_id": each.customer_id, "grant_id": each.grant_id, **month_shape(each.revenue)}


class TopUp(TypedDict):
    """When a customer's balance is topped up, and by how much."""

    customer_id: CustomerId
    when_below_usd_cents: Annotated[Cents, described("Bought when the balance is below this.", example="1000")]
    buy_usd_cents: Annotated[Cents, described("What is bought and invoiced, in whole cents.", example="5000")]
    at_most_a_day: Annotated[int, described("How often it may be bought in 24 hours; 0: never.", example=3)]
    set_at: Annotated[Time, described("When this was set.")]
    set_by: BookedBy


class TopUpInput(Input):
    """When to buy, and how much."""

    when_below_usd_cents: Annotated[
        CentsInput, Field(description="Buy when the balance of grants without limits is below this.")
    ]
    buy_usd_cents: Annotated[CentsInput, Field(description="What to buy and invoice, in whole cents; 50 or more.")]
    at_most_a_day: Annotated[
        int,
        WHOLE_NUMBER,
        Field(ge=0, le=MAX_A_DAY, description="How often it may be bought in 24 hours; 0 switches it off."),
    ]


@top_up_router.get(
    "/customers/{customer_id:id}/top-up", operation_id="getTopUp", summary="Get a customer's top-up"
)
@needs(Scope.CREDITS_READ)
@raises(NotFoundError)
def read_top_up(customer_id: _CustomerPath, key: Caller, connection: Db) -> TopUp:
    """When a customer's balance is topped up."""
    require_customer(key, customer_id)
    found = find_top_up(connection, customer_id)
    if found is None:
        raise NotFoundError(f"customer {customer_id!r} has no top-up")
    return _top_up_shape(found)


@top_up_router.put(
    "/customers/{customer_id:id}/top-up", operation_id="putTopUp", summary="Set a customer's top-up"
)
@needs(Scope.CREDITS_WRITE)
@raises(UnknownCustomerError, InvalidTopUpError)
def write_top_up(customer_id: _CustomerPath, given: TopUpInput, by: By, service: TheService) -> TopUp:
    """Set when a customer's balance is topped up: by a grant that Stripe invoices, and that counts once paid."""
    now = utc_now()
    wanted = StoredTopUp(
        customer_id=customer_id,
        when_below_usd_cents=given.when_below_usd_cents,
        buy_usd_cents=given.buy_usd_cents,
        at_most_a_day=given.at_most_a_day,
        set_at=now,
        set_by=str(by),
    )
    return _top_up_shape(set_top_up(engine=service.engine, top_up=wanted, by=by, now=now))


def _top_up_shape(top_up: StoredTopUp) -> TopUp:
    return {
        "customer_id": top_up.customer_id,
        "when_below_usd_cents": cents_text(top_up.when_below_usd_cents),
        "buy_usd_cents": cents_text(top_up.buy_usd_cents),
        "at_most_a_day": top_up.at_most_a_day,
        "set_at": time_text(top_up.set_at),
        "set_by": top_up.set_by,
    }
