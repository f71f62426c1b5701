"""`metering budgets` and `metering holds`: limits on what may be spent, and money held for open streams."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer

from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.holds import Hold, Overrun
from metering.budgets.queries.budgets import BudgetView, get_budget, list_budgets
from metering.budgets.queries.holds import list_open_holds, newest_overruns
from metering.budgets.release_hold import release_hold
from metering.budgets.set_budget import BudgetTerms, UnknownBudgetError, end_budget, set_budget
from metering.cli.options import AsJson, Limit, OnlyCustomer, parse_decimal, time_text
from metering.cli.service import database, operator
from metering.core.clock import utc_now
from metering.core.money import EXACT, cents_text
from metering.server.bootstrap import build_service
from metering.server.settings import load_settings
from metering.server.terminal.output import done, show, show_one

budgets = typer.Typer()
holds = typer.Typer()

BudgetId = Annotated[str, typer.Argument(help="The budget's ID; you choose it.")]


@budgets.command(
    "set", epilog="Example: metering budgets set acme-monthly --customer acme --window month --usd 500"
)
def set_one(
    budget_id: BudgetId,
    window: Annotated[
        BudgetWindow,
        typer.Option(help="day and month are the customer's; prepaid has the balance of its grants as limit."),
    ],
    usd: Annotated[str | None, typer.Option(help="The limit in dollars.")] = None,
    cents: Annotated[str | None, typer.Option(help="The limit in cents instead.")] = None,
    customer: Annotated[str | None, typer.Option(help="Limit this customer.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Only streams with this api_key_id of the customer.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only streams with this tag, e.g. team=search.")] = None,
    deployment: Annotated[bool, typer.Option("--deployment", help="Limit all customers together.")] = False,
    action: Annotated[
        BudgetAction, typer.Option(help="What happens to streams that do not fit.")
    ] = BudgetAction.REFUSE,
    unknown_price_cents: Annotated[
        str | None,
        typer.Option(help="Hold this for a stream whose model has no price. Default: refuse such streams."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a budget, or change its limit, action or unknown price.

    A new budget counts what was booked in its window before it, and refuses from then on.
    """
    if usd is not None and cents is not None:
        raise typer.BadParameter("give the limit in dollars with --usd, or in cents with --cents, not both")
    engine, now = build_service(load_settings()).engine, utc_now()
    terms = BudgetTerms(
        scope=_scope(customer, api_key, tag, deployment),
        window=window,
        limit_usd_cents=_limit(usd, cents),
        action=action,
        unknown_price_usd_cents=_cents("--unknown-price-cents", unknown_price_cents),
    )
    set_budget(engine=engine, budget_id=budget_id, terms=terms, by=operator(), now=now)
    with database() as connection:
        view = get_budget(connection, budget_id=budget_id, now=now)
    if view is None:
        raise UnknownBudgetError(f"budget {budget_id!r} was ended meanwhile")
    show_one(_row(view), as_json=as_json)


@budgets.command("list")
def list_them(customer: OnlyCustomer = None, limit: Limit = 1000, as_json: AsJson = False) -> None:
    """List budgets with what is spent, held and left in the current window."""
    with database() as connection:
        found = list_budgets(connection, now=utc_now(), customer_id=customer, after=None, limit=limit)
    show(
        [_row(view) for view in found],
        as_json=as_json,
        empty=f"no budgets{' match' if customer else ''}: make one, `metering budgets set`",
        important=("budget_id", "of", "window", "limit_usd_cents", "headroom_usd_cents"),
    )


@budgets.command("end")
def end_one(budget_id: BudgetId, as_json: AsJson = False) -> None:
    """End a budget: it refuses nothing from now on."""
    engine = build_service(load_settings()).engine
    end_budget(engine=engine, budget_id=budget_id, by=operator(), now=utc_now())
    done(f"ended {budget_id}", {"budget_id": budget_id, "state": "ended"}, as_json=as_json)


@budgets.command("overruns")
def overruns(
    customer: OnlyCustomer = None,
    days: Annotated[int, typer.Option(min=1, help="How far back to look.")] = 30,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List what was booked beyond holds, newest first, with the reason of each."""
    since = utc_now() - timedelta(days=days)
    with database() as connection:
        found = newest_overruns(connection, since=since, customer_id=customer, limit=limit)
    show(
        [_overrun_row(each) for each in found],
        as_json=as_json,
        empty=f"nothing was booked beyond a hold in the last {days} days",
        important=("customer_id", "stream_id", "reason", "usd_cents"),
    )


@holds.command("list")
def list_holds(customer: OnlyCustomer = None, limit: Limit = 100, as_json: AsJson = False) -> None:
    """List open holds: money set aside for streams whose charge is not booked yet."""
    with database() as connection:
        found = list_open_holds(connection, customer_id=customer, after=None, limit=limit)
    show(
        [_hold_row(hold) for hold in found],
        as_json=as_json,
        empty="no open holds",
        important=("customer_id", "stream_id", "held_usd_cents", "expires_at"),
    )


@holds.command("release")
def release(
    customer_id: Annotated[str, typer.Argument(help="The customer.")],
    stream_id: Annotated[str, typer.Argument(help="The stream.")],
    as_json: AsJson = False,
) -> None:
    """Give back the hold of a stream that was not sent upstream."""
    engine = build_service(load_settings()).engine
    release_hold(engine=engine, customer_id=customer_id, stream_id=stream_id, now=utc_now())
    result = {"customer_id": customer_id, "stream_id": stream_id, "state": "released"}
    done(f"released the hold of {stream_id}", result, as_json=as_json)


def _scope(customer: str | None, api_key: str | None, tag: str | None, deployment: bool) -> BudgetScope:
    if deployment:
        if customer or api_key or tag:
            raise typer.BadParameter("give --deployment alone, or --customer with --api-key or --tag")
        return BudgetScope(ScopeKind.DEPLOYMENT)
    if customer is None:
        raise typer.BadParameter("give --customer, or --deployment")
    if api_key is not None and tag is not None:
        raise typer.BadParameter("give --api-key or --tag, not both")
    if tag is not None:
        name, sign, value = tag.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"--tag: expected a name and a value, such as team=search, got {tag!r}")
        return BudgetScope(ScopeKind.TAG, customer, tag_name=name, tag_value=value)
    if api_key is not None:
        return BudgetScope(ScopeKind.API_KEY, customer, api_key)
    return BudgetScope(ScopeKind.CUSTOMER, customer)


def _limit(usd: str | None, cents: str | None) -> Decimal | None:
    if usd is not None:
        return EXACT.scaleb(parse_decimal("--usd", usd), 2)
    return _cents("--cents", cents)


def _cents(option: str, text: str | None) -> Decimal | None:
    return None if text is None else parse_decimal(option, text)


def _row(view: BudgetView) -> dict[str, Any]:
    budget, standing = view.budget, view.standing
    flat = budget.unknown_price_usd_cents
    return {
        "budget_id": budget.budget_id,
        "of": _of(budget.scope),
        "window": budget.window.value,
        "limit_usd_cents": cents_text(standing.limit_usd_cents),
        "spent_usd_cents": cents_text(standing.spent_usd_cents),
        "held_usd_cents": cents_text(standing.held_usd_cents),
        "headroom_usd_cents": cents_text(standing.headroom_usd_cents),
        "open_holds": view.open_holds,
        "resets_at": time_text(standing.resets_at),
        "action": budget.action.value,
        "unknown_price": "refuse" if flat is None else cents_text(flat),
        "version": budget.version,
    }


def _of(scope: BudgetScope) -> str:
    """Whose spending is limited, in one cell."""
    match scope.kind:
        case ScopeKind.DEPLOYMENT:
            return "everything"
        case ScopeKind.API_KEY:
            return f"{scope.customer_id}, key {scope.api_key_id}"
        case ScopeKind.TAG:
            return f"{scope.customer_id}, {scope.tag_name}={scope.tag_value}"
    return scope.customer_id


def _hold_row(hold: Hold) -> dict[str, Any]:
    asked = hold.request
    return {
        "customer_id": asked.customer_id,
        "stream_id": asked.stream_id,
        "held_usd_cents": cents_text(hold.held_usd_cents),
        "provider": asked.provider,
        "model": asked.model,
        "mode": asked.mode.value,
        "stopped": hold.is_stopped,
        "made_at": time_text(hold.made_at),
        "expires_at": time_text(hold.expires_at),
        "budgets": ", ".join(hold.budget_ids),
    }


def _overrun_row(overrun: Overrun) -> dict[str, Any]:
    return {
        "booked_at": time_text(overrun.booked_at),
        "customer_id": overrun.customer_id,
        "stream_id": overrun.stream_id,
        "reason": overrun.reason.value,
        "usd_cents": cents_text(overrun.usd_cents),
        "held_usd_cents": cents_text(overrun.held_usd_cents),
        "entry_id": overrun.entry_id,
    }
