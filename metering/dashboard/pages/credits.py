"""The credits page: what customers have left of their grants, and a grant with what it paid for."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from metering.budgets.queries.holds import held_of
from metering.core.cursors import parse_time, time_part
from metering.core.money import EXACT, ZERO, sum_cents
from metering.core.period import BillingPeriod
from metering.core.time_zones import UTC_ZONE
from metering.credits.forecast import runs_out_at
from metering.credits.grant import EntryKind, Grant, GrantState
from metering.credits.queries.balances import GrantBalance, balance_now
from metering.credits.queries.deferred_revenue import deferred_revenue_in_all
from metering.credits.queries.entries import list_entries
from metering.credits.queries.grants import list_grants
from metering.credits.store.grants import find_grant
from metering.credits.store.top_ups import find_top_up
from metering.customers.queries.customers import CustomerView, get_customer
from metering.dashboard.errors import NotFoundError
from metering.dashboard.links import customer_cell, customer_page, grant_page, link, stream_page
from metering.dashboard.month_summary import Tile, money_tile
from metering.dashboard.month_totals import cost
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.tables import Cell, Column, Kind, Row, Table
from metering.dashboard.values import counted, exact_money, money
from metering.totals.queries.question import TotalsQuestion
from metering.totals.queries.totals import read_totals

_SHOWN = 50
# The rate of use is that of so many whole days.
_BURN_DAYS = 14


def credits_page(request: PageRequest) -> Page:
    """The page of a customer's grants, or of the newest grants of all."""
    customer_id = request.customer(request.text("customer_id"))
    if customer_id is None:
        return _of_all(request)
    view = get_customer(request.connection, customer_id=customer_id, now=request.now)
    if view is None:
        raise NotFoundError(f"there is no customer {customer_id!r} yet: its first event creates it")
    return _of_customer(request, view)


def _of_all(request: PageRequest) -> Page:
    month = BillingPeriod.containing(at=request.now, time_zone=UTC_ZONE)
    revenue = deferred_revenue_in_all(request.connection, period=str(month), customer_id=None, now=request.now)
    tiles = [
        _cents_tile("Deferred", revenue.closing_cents, "of the price of all grants, now"),
        _cents_tile("Sold", revenue.sold_cents, f"in {month}"),
        _cents_tile("Recognised", revenue.recognised_cents, f"in {month}, of what was drawn"),
        _cents_tile("Breakage", revenue.breakage_cents, f"in {month}, of what expired"),
        _cents_tile("Refunded", revenue.refunded_cents, f"in {month}"),
    ]
    table = _grants(request, customer_id=None)
    return Page(
        template="credits.html.j2",
        title="Credits",
        section="credits",
        context={
            "customer": None,
            "tiles": tiles,
            "tables": [table],
            "once": secrets.token_hex(16),
            "done": request.text("done"),
        },
        tables=[table],
    )


def _of_customer(request: PageRequest, view: CustomerView) -> Page:
    customer_id = view.customer_id
    table = _grants(request, customer_id=customer_id)
    is_alone = request.viewer.customer_id is not None
    return Page(
        template="credits.html.j2",
        title="Credits" if is_alone else f"Credits of {view.name or customer_id}",
        section="credits",
        crumbs=[]
        if is_alone
        else [("Customers", link("customers")), (view.name or customer_id, customer_page(customer_id))],
        context={
            "customer": view,
            "tiles": _balance_tiles(request, customer_id),
            "tables": [table],
            "once": secrets.token_hex(16),
            "done": request.text("done"),
        },
        tables=[table],
    )


def balance_tile(request: PageRequest, customer_id: str) -> Tile | None:
    """What a customer has left, for its page; None if it never had a grant, or the viewer may not see it."""
    if not request.viewer.may("credits:read"):
        return None
    if not list_grants(request.connection, customer_id=customer_id, state=None, after=None, limit=1):
        return None
    found = _effective(balance_now(request.connection, customer_id=customer_id, at=request.now), request.now)
    left = sum_cents(each.balance_usd_cents for each in found)
    href = link("credits", customer_id=customer_id)
    return money_tile("Prepaid credit", left, _next_expiry(found), href=href, flag=None if left else "attention")


def _balance_tiles(request: PageRequest, customer_id: str) -> list[Tile]:
    found = balance_now(request.connection, customer_id=customer_id, at=request.now)
    effective = _effective(found, request.now)
    left = sum_cents(each.balance_usd_cents for each in effective)
    free = sum_cents(each.balance_usd_cents for each in effective if not each.grant.limits.limited)
    held = held_of(request.connection, customer_id=customer_id)
    available = max(EXACT.subtract(free, held), ZERO)
    per_day = _burn(request, customer_id)
    out = runs_out_at([each.grant for each in found], per_day=per_day, now=request.now)
    return [
        money_tile("Balance", left, _next_expiry(effective)),
        money_tile("Available", available, f"for any model; open streams hold {money(held)}"),
        money_tile("Used a day", per_day, f"average of the last {_BURN_DAYS} days"),
        Tile(
            title="Runs out",
            value="–" if not per_day else f"{out:%Y-%m-%d}" if out else "not within a year",
            detail="at that rate, with what expires by then",
            flag="attention" if out is not None and out - request.now < timedelta(days=7) else None,
        ),
    ]


def _effective(found: Sequence[GrantBalance], now: datetime) -> list[GrantBalance]:
    return [each for each in found if each.grant.effective_from <= now]


def _next_expiry(found: Sequence[GrantBalance]) -> str:
    expiring = [each for each in found if each.grant.expires_at is not None]
    if not expiring:
        return "nothing expires"
    first = min(each.grant.expires_at for each in expiring if each.grant.expires_at is not None)
    amount = sum_cents(each.balance_usd_cents for each in expiring if each.grant.expires_at == first)
    return f"{money(amount)} expires on {first:%Y-%m-%d}"


def _burn(request: PageRequest, customer_id: str) -> Decimal:
    """The average cost of a day, in cents, of the last whole days in UTC."""
    today = datetime.combine(request.now.astimezone(UTC).date(), datetime.min.time(), tzinfo=UTC)
    begin = today - timedelta(days=_BURN_DAYS)
    question = TotalsQuestion(from_=begin, to=today, customer_id=customer_id, counters=False)
    used = cost(read_totals(request.connection, question=question))
    return (used / _BURN_DAYS).quantize(Decimal("0.0001"))


def _cents_tile(title: str, cents: int, detail: str) -> Tile:
    return money_tile(title, Decimal(cents), detail)


def _grants(request: PageRequest, *, customer_id: str | None) -> Table:
    position = request.position(2)
    limit = request.page_limit("grants", _SHOWN)
    found = list_grants(
        request.connection,
        customer_id=customer_id,
        state=None,
        after=(parse_time(position[0]), position[1]) if position else None,
        limit=limit + 1,
    )
    last = found[limit - 1] if len(found) > limit else None
    whose = [] if customer_id is not None else [Column("customer_id", "Customer")]
    return Table(
        name="grants",
        title="Grants",
        columns=[
            Column("grant_id", "Grant"),
            *whose,
            Column("left", "Left", Kind.EXACT_MONEY),
            Column("amount", "Amount", Kind.MONEY),
            Column("paid", "Price", Kind.MONEY),
            Column("state", "State", Kind.STATE),
            Column("expires_at", "Expires", Kind.TIME),
            Column("reason", "Reason", Kind.PROSE),
            Column("for", "Pays for", Kind.PROSE),
            Column("priority", "Priority", Kind.COUNT),
            Column("created_at", "Made", Kind.TIME),
        ],
        rows=[
            {
                **_row(each, request.now),
                "customer_id": customer_cell(each.customer_id),
            }
            for each in found[:limit]
        ],
        empty=request.words(
            "No grants: prepaid and promotional money of customers is made below, or with POST /v1/grants.",
            to_customer="No prepaid or promotional credit.",
        ),
        more=request.next_page("credits", [time_part(last.created_at), last.grant_id]) if last else None,
        note=_top_up_note(request, customer_id),
    )


def _top_up_note(request: PageRequest, customer_id: str | None) -> str:
    top_up = None if customer_id is None else find_top_up(request.connection, customer_id)
    if top_up is None or not top_up.at_most_a_day:
        return ""
    buy, below = exact_money(top_up.buy_usd_cents), exact_money(top_up.when_below_usd_cents)
    often = counted(top_up.at_most_a_day, "time")
    return f"Topped up with {buy} when the balance is below {below}, at most {often} in 24 hours."


def _row(grant: Grant, now: datetime) -> Row:
    return {
        "grant_id": Cell(grant.grant_id, grant_page(grant.grant_id)),
        "left": grant.balance_at(now),
        "amount": grant.amount_usd_cents,
        "paid": grant.paid_usd_cents,
        "state": _state(grant, now),
        "expires_at": grant.expires_at,
        "for": _pays_for(grant),
        "priority": grant.priority,
        "reason": grant.reason,
        "created_at": grant.created_at,
    }


def _state(grant: Grant, now: datetime) -> str:
    if grant.state is not GrantState.ACTIVE:
        return grant.state.value
    if grant.expired(now):
        return "expired"
    if grant.effective_from > now:
        return "upcoming"
    return "active" if grant.balance_usd_cents else "used up"


def _pays_for(grant: Grant) -> str:
    named = [*grant.limits.providers, *grant.limits.models]
    return ", ".join(named) if named else "everything"


def grant(request: PageRequest) -> Page:
    """The page of a grant, with its entries."""
    found = find_grant(request.connection, request.id("grant_id"))
    if found is None or request.viewer.customer_id not in (None, found.customer_id):
        raise NotFoundError(f"there is no grant {request.id('grant_id')!r}")
    limit = request.list_limit("entries", _SHOWN)
    entries = list_entries(request.connection, grant_id=found.grant_id, before=None, limit=limit + 1)
    table = Table(
        name="entries",
        title="Entries",
        columns=[
            Column("booked_at", "Booked", Kind.TIME),
            Column("kind", "What", Kind.STATE),
            Column("amount", "Amount", Kind.EXACT_MONEY),
            Column("left", "Left after it", Kind.EXACT_MONEY),
            Column("stream", "For stream", Kind.CODE),
            Column("period", "On the invoice of"),
            Column("released", "Of the price", Kind.MONEY),
            Column("reason", "Reason", Kind.PROSE),
        ],
        rows=[
            {
                "booked_at": each.booked_at,
                "kind": each.kind.value,
                "amount": each.usd_cents,
                "left": each.balance_usd_cents,
                "stream": Cell(each.stream_id, stream_page(found.customer_id, each.stream_id))
                if each.stream_id
                else None,
                "period": each.entry_period,
                "released": Decimal(each.released_cents) if each.kind is not EntryKind.GRANTED else None,
                "reason": each.reason,
            }
            for each in entries[:limit]
        ],
        whole=len(entries) <= limit,
        empty="No entries: it is not paid yet.",
    )
    is_alone = request.viewer.customer_id is not None
    of_customer = link("credits", customer_id=None if is_alone else found.customer_id)
    return Page(
        template="grant.html.j2",
        title=f"Grant {found.grant_id}",
        section="credits",
        crumbs=[("Credits" if is_alone else f"Credits of {found.customer_id}", of_customer)],
        context={
            "grant": found,
            "left": found.balance_at(request.now),
            "state": _state(found, request.now),
            "pays_for": _pays_for(found),
            "tables": [table],
            "once": secrets.token_hex(16),
            "done": request.text("done"),
        },
        tables=[table],
    )
