"""Budgets over HTTP, and the open holds against them. `POST /v1/holds` is in `holds.py`."""

from typing import Annotated, Literal

from fastapi import Depends, Path
from pydantic import Field
from typing_extensions import TypedDict

from metering.access.scopes import Scope
from metering.api.answers import Cents, Count, CustomerId, Model, Provider, StreamId, Time, described, time_text
from metering.api.auth import By, Caller, needs, require_customer
from metering.api.paging import Limit, Page, cursor_of, page_of
from metering.api.parameters import CentsInput, CustomerFilter, Db, Id, Input, TheService, stream_key_before
from metering.api.problems import InvalidParameterError, NotFoundError
from metering.api.routes import raises, v1_router
from metering.budgets.budget import Budget as StoredBudget
from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.holds import Hold as StoredHold
from metering.budgets.holds import HoldMode
from metering.budgets.queries.budgets import BudgetView, get_budget, list_budgets
from metering.budgets.queries.holds import list_open_holds
from metering.budgets.release_hold import StreamStartedError, UnknownHoldError, release_hold
from metering.budgets.set_budget import (
    BudgetDiffersError,
    BudgetTerms,
    InvalidBudgetError,
    UnknownBudgetError,
    end_budget,
    set_budget,
)
from metering.core.clock import utc_now
from metering.core.cursors import TEXT, decode_cursor
from metering.core.money import cents_text
from metering.customers.store import UnknownCustomerError

router = v1_router("budgets")

BudgetPath = Annotated[Id, Path(description="The budget.", examples=["acme-monthly"])]


class ScopeInput(Input):
    """Whose spending is limited: a customer, one of its API keys, one of its tags, or the whole deployment."""

    customer_id: Annotated[Id | None, Field(description="The customer.", examples=["acme"])] = None
    api_key_id: Annotated[
        Id | None, Field(description="Only streams with this `api_key_id`.", examples=["key-7"])
    ] = None
    tag: Annotated[
        dict[str, str] | None,
        Field(description="Only streams with this tag: one name and its value.", examples=[{"team": "search"}]),
    ] = None
    deployment: Annotated[Literal[True] | None, Field(description="Everything; then nothing else is given.")] = (
        None
    )


class FlatPriceInput(Input):
    """An amount for each stream whose model has no price."""

    flat_usd_cents: Annotated[CentsInput, Field(description="What is held for such a stream.", ge=0)]


class BudgetInput(Input):
    """A budget."""

    scope: ScopeInput
    window: Annotated[
        BudgetWindow,
        Field(
            description="`day` and `month` are the customer's, `total` is all time; the limit of `prepaid` is the"
            " balance of the customer's grants."
        ),
    ]
    limit_usd_cents: Annotated[
        CentsInput | None,
        Field(description="The limit in exact cents, as a string; none for `prepaid`.", examples=["50000"]),
    ] = None
    action: Annotated[
        BudgetAction,
        Field(description="`refuse` refuses holds that do not fit; `warn` admits and counts them."),
    ] = BudgetAction.REFUSE
    unknown_price: Annotated[
        Literal["refuse"] | FlatPriceInput,
        Field(description="What happens to a stream whose model has no price.", examples=["refuse"]),
    ] = "refuse"


class BudgetScopeShape(TypedDict, total=False):
    """Whose spending is limited."""

    customer_id: Annotated[str, described("The customer.", example="acme")]
    api_key_id: Annotated[str, described("The gateway's key that is limited.", example="key-7")]
    tag: Annotated[dict[str, str], described("The tag that is limited.", example={"team": "search"})]
    deployment: Annotated[bool, described("True: everything.")]


class FlatPriceShape(TypedDict):
    """An amount for each stream whose model has no price."""

    flat_usd_cents: Annotated[Cents, described("What is held for such a stream.", example="100")]


class Budget(TypedDict):
    """A budget and its figures in the current window: headroom = limit - spent - held."""

    budget_id: Annotated[str, described("The budget.", example="acme-monthly")]
    scope: BudgetScopeShape
    window: Annotated[BudgetWindow, described("The time that the limit is for.")]
    action: Annotated[BudgetAction, described("What happens to holds that do not fit.")]
    unknown_price: Annotated[
        Literal["refuse"] | FlatPriceShape, described("What happens to a stream whose model has no price.")
    ]
    version: Annotated[int, described("Counts the changes of its terms, from 1.")]
    limit_usd_cents: Annotated[Cents, described("The limit; for `prepaid`, what is left of the grants.")]
    spent_usd_cents: Annotated[Cents, described("What was booked in the window; 0 for `prepaid`.")]
    held_usd_cents: Annotated[Cents, described("What open streams hold.")]
    headroom_usd_cents: Annotated[Cents, described("What may still be held; below 0 when it is overspent.")]
    open_holds: Annotated[Count, described("How many streams hold something.")]
    window_starts_at: Annotated[Time | None, described("When the window began; null: it has no beginning.")]
    resets_at: Annotated[Time | None, described("When the next window begins; null: never.")]
    created_at: Annotated[Time, described("When it was made.")]


class OpenHold(TypedDict):
    """Money set aside for a stream whose charge is not booked yet."""

    hold_id: Annotated[str, described("The hold.", example="hold_5d4c0a9b")]
    customer_id: CustomerId
    stream_id: StreamId
    provider: Provider
    model: Model
    mode: Annotated[HoldMode, described("How much is held ahead.")]
    held_usd_cents: Annotated[Cents, described("What is held.")]
    covers_output_tokens: Annotated[Count, described("The output tokens that it covers.")]
    stopped: Annotated[
        bool, described("True: its budget is exhausted, and the gateway was told to end the stream.")
    ]
    made_at: Annotated[Time, described("When it was made.")]
    expires_at: Annotated[Time, described("When it is looked at, unless the stream is charged before.")]
    budget_ids: Annotated[list[str], described("The budgets that it counts against.")]


def _scope_of(given: ScopeInput) -> BudgetScope:
    if given.deployment:
        if given.customer_id or given.api_key_id or given.tag:
            raise InvalidParameterError("scope: a budget of the deployment has no customer_id, api_key_id or tag")
        return BudgetScope(ScopeKind.DEPLOYMENT)
    if given.customer_id is None:
        raise InvalidParameterError('scope.customer_id: required, unless the scope is {"deployment": true}')
    if given.api_key_id is not None and given.tag is not None:
        raise InvalidParameterError("scope: give api_key_id or tag, not both")
    if given.tag is not None:
        if len(given.tag) != 1:
            raise InvalidParameterError(f"scope.tag: expected one name and its value, got {len(given.tag)}")
        ((name, value),) = given.tag.items()
        return BudgetScope(ScopeKind.TAG, given.customer_id, tag_name=name, tag_value=value)
    if given.api_key_id is not None:
        return BudgetScope(ScopeKind.API_KEY, given.customer_id, given.api_key_id)
    return BudgetScope(ScopeKind.CUSTOMER, given.customer_id)


def _scope_shape(scope: BudgetScope) -> BudgetScopeShape:
    if scope.kind is ScopeKind.DEPLOYMENT:
        return {"deployment": True}
    shape: BudgetScopeShape = {"customer_id": scope.customer_id}
    if scope.api_key_id is not None:
        shape["api_key_id"] = scope.api_key_id
    if scope.tag_name is not None and scope.tag_value is not None:
        shape["tag"] = {scope.tag_name: scope.tag_value}
    return shape


def _unknown_price(budget: StoredBudget) -> Literal["refuse"] | FlatPriceShape:
    flat = budget.unknown_price_usd_cents
    return "refuse" if flat is None else {"flat_usd_cents": cents_text(flat)}


def budget_shape(view: BudgetView) -> Budget:
    """A budget as it is answered."""
    budget, standing = view.budget, view.standing
    return {
        "budget_id": budget.budget_id,
        "scope": _scope_shape(budget.scope),
        "window": budget.window,
        "action": budget.action,
        "unknown_price": _unknown_price(budget),
        "version": budget.version,
        "limit_usd_cents": cents_text(standing.limit_usd_cents),
        "spent_usd_cents": cents_text(standing.spent_usd_cents),
        "held_usd_cents": cents_text(standing.held_usd_cents),
        "headroom_usd_cents": cents_text(standing.headroom_usd_cents),
        "open_holds": view.open_holds,
        "window_starts_at": time_text(standing.starts_at) if standing.starts_at else None,
        "resets_at": time_text(standing.resets_at) if standing.resets_at else None,
        "created_at": time_text(budget.created_at),
    }


def hold_shape(hold: StoredHold) -> OpenHold:
    """An open hold as it is answered."""
    asked = hold.request
    return {
        "hold_id": hold.hold_id,
        "customer_id": asked.customer_id,
        "stream_id": asked.stream_id,
        "provider": asked.provider,
        "model": asked.model,
        "mode": asked.mode,
        "held_usd_cents": cents_text(hold.held_usd_cents),
        "covers_output_tokens": hold.covers_output_tokens,
        "stopped": hold.is_stopped,
        "made_at": time_text(hold.made_at),
        "expires_at": time_text(hold.expires_at),
        "budget_ids": list(hold.budget_ids),
    }


@router.get("/budgets", operation_id="listBudgets", summary="List budgets")
@needs(Scope.BUDGETS_READ)
def read_budgets(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TEXT)] = None,
) -> Page[Budget]:
    """Budgets in the order of their ids, with what is spent and held. A key of one customer sees its own."""
    customer_id = require_customer(key, customer_id)
    position = decode_cursor(cursor, length=1)
    found = list_budgets(
        connection,
        now=utc_now(),
        customer_id=customer_id,
        after=position[0] if position else None,
        limit=limit + 1,
    )
    return page_of(found, limit=limit, shape=budget_shape, position=lambda view: [view.budget.budget_id])


@router.get("/budgets/{budget_id}", operation_id="getBudget", summary="Get a budget")
@needs(Scope.BUDGETS_READ)
@raises(NotFoundError)
def read_budget(budget_id: BudgetPath, key: Caller, connection: Db) -> Budget:
    """A budget, with what is spent and held in the current window."""
    view = get_budget(connection, budget_id=budget_id, now=utc_now())
    if view is None or (key.customer_id is not None and view.budget.scope.customer_id != key.customer_id):
        raise NotFoundError(f"there is no budget {budget_id!r}")
    return budget_shape(view)


@router.put("/budgets/{budget_id}", operation_id="putBudget", summary="Set a budget")
@needs(Scope.BUDGETS_WRITE)
@raises(InvalidBudgetError, BudgetDiffersError, UnknownCustomerError)
def write_budget(budget_id: BudgetPath, given: BudgetInput, by: By, service: TheService, connection: Db) -> Budget:
    """Make a budget, or change its limit, action or unknown price. Scope and window of a budget do not change.

    A new budget counts what was booked in its window before it.
    """
    price = given.unknown_price
    terms = BudgetTerms(
        scope=_scope_of(given.scope),
        window=given.window,
        limit_usd_cents=given.limit_usd_cents,
        action=given.action,
        unknown_price_usd_cents=None if price == "refuse" else price.flat_usd_cents,
    )
    now = utc_now()
    set_budget(engine=service.engine, budget_id=budget_id, terms=terms, by=by, now=now)
    view = get_budget(connection, budget_id=budget_id, now=now)
    if view is None:
        raise NotFoundError(f"budget {budget_id!r} was ended meanwhile")
    return budget_shape(view)


@router.delete("/budgets/{budget_id}", status_code=204, operation_id="endBudget", summary="End a budget")
@needs(Scope.BUDGETS_WRITE)
@raises(UnknownBudgetError)
def remove_budget(budget_id: BudgetPath, by: By, service: TheService) -> None:
    """End a budget: it refuses nothing from now on. Its versions and windows are kept."""
    end_budget(engine=service.engine, budget_id=budget_id, by=by, now=utc_now())


@router.get("/holds", operation_id="listHolds", summary="List open holds")
@needs(Scope.BUDGETS_READ)
def read_holds(
    key: Caller,
    connection: Db,
    customer_id: CustomerFilter = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, cursor_of(TEXT, TEXT)] = None,
) -> Page[OpenHold]:
    """Open holds in the order of their customers and streams. A key of one customer sees its own."""
    customer_id = require_customer(key, customer_id)
    position = decode_cursor(cursor, length=2)
    found = list_open_holds(
        connection,
        customer_id=customer_id,
        after=(position[0], position[1]) if position else None,
        limit=limit + 1,
    )
    return page_of(found, limit=limit, shape=hold_shape, position=lambda hold: hold.request.key)


@router.delete(
    "/holds/{customer_id}/{stream_id:id}", status_code=204, operation_id="releaseHold", summary="Release a hold"
)
@needs(Scope.HOLDS_WRITE)
@raises(UnknownHoldError, StreamStartedError)
def remove_hold(
    stream: Annotated[tuple[str, str], Depends(stream_key_before("", under="/v1/holds/"))],
    key: Caller,
    service: TheService,
) -> None:
    """Give back a hold of a stream that was not sent upstream. After a stream-start, the answer is 409."""
    customer_id, stream_id = stream
    require_customer(key, customer_id)
    release_hold(engine=service.engine, customer_id=customer_id, stream_id=stream_id, now=utc_now())
