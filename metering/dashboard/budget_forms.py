"""The forms of the budgets page: set a budget, end it."""

from decimal import Decimal
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.budgets.budget import BudgetAction, BudgetScope, BudgetWindow, ScopeKind
from metering.budgets.set_budget import (
    BudgetDiffersError,
    BudgetTerms,
    InvalidBudgetError,
    UnknownBudgetError,
    end_budget,
    set_budget,
)
from metering.core.clock import utc_now
from metering.core.money import EXACT
from metering.customers.store import UnknownCustomerError
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.fields import FieldError, number
from metering.dashboard.forms import read_signed_form
from metering.dashboard.links import link
from metering.dashboard.rendering import HEADERS
from metering.dashboard.sessions import Viewer
from metering.server.bootstrap import Service

Form = dict[str, str]
ChoiceT = TypeVar("ChoiceT", BudgetWindow, BudgetAction)
_MAX_ID = 128


def budget_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms."""

    @needs(Scope.BUDGETS_READ, Scope.BUDGETS_WRITE)
    async def set_one(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_set, service, viewer, form)

    @needs(Scope.BUDGETS_READ, Scope.BUDGETS_WRITE)
    async def end_one(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_end, service, viewer, form)

    return [
        Route("/budgets/set", set_one, methods=["POST"]),
        Route("/budgets/end", end_one, methods=["POST"]),
    ]


def _set(service: Service, viewer: Viewer, form: Form) -> Response:
    budget_id = _text(form, "budget_id")
    terms = BudgetTerms(
        scope=_scope(form),
        window=_one_of(form, "window", BudgetWindow),
        limit_usd_cents=_cents(form, "usd"),
        action=_one_of(form, "action", BudgetAction),
        unknown_price_usd_cents=_cents(form, "unknown_usd"),
    )
    try:
        set_budget(engine=service.engine, budget_id=budget_id, terms=terms, by=viewer.actor, now=utc_now())
    except (InvalidBudgetError, BudgetDiffersError, UnknownCustomerError) as error:
        raise InvalidFormError(str(error)) from error
    return _to(f"Budget {budget_id} set.")


def _end(service: Service, viewer: Viewer, form: Form) -> Response:
    budget_id = _text(form, "budget_id")
    if form.get("confirm", "").strip() != budget_id:
        raise FieldError("confirm", "type the id of the budget to end it")
    try:
        end_budget(engine=service.engine, budget_id=budget_id, by=viewer.actor, now=utc_now())
    except UnknownBudgetError as error:
        raise InvalidFormError(str(error)) from error
    return _to(f"Budget {budget_id} ended.")


def _scope(form: Form) -> BudgetScope:
    customer_id = form.get("customer_id", "").strip()
    api_key_id, tag = form.get("api_key_id", "").strip(), form.get("tag", "").strip()
    if not customer_id:
        if api_key_id or tag:
            raise FieldError("customer_id", "required with an API key or a tag")
        return BudgetScope(ScopeKind.DEPLOYMENT)
    if api_key_id and tag:
        raise FieldError("tag", "give an API key or a tag, not both")
    if tag:
        name, sign, value = tag.partition("=")
        if not sign or not name:
            raise FieldError("tag", "expected a name and a value, such as team=search")
        return BudgetScope(ScopeKind.TAG, customer_id, tag_name=name, tag_value=value)
    if api_key_id:
        return BudgetScope(ScopeKind.API_KEY, customer_id, api_key_id)
    return BudgetScope(ScopeKind.CUSTOMER, customer_id)


def _text(form: Form, name: str) -> str:
    given = form.get(name, "").strip()
    if not given or len(given) > _MAX_ID or "\0" in given:
        raise FieldError(name, f"expected 1 to {_MAX_ID} characters")
    return given


def _one_of(form: Form, name: str, choices: type[ChoiceT]) -> ChoiceT:
    try:
        return choices(form.get(name, ""))
    except ValueError as error:
        raise FieldError(name, f"expected one of {', '.join(choices)}") from error


def _cents(form: Form, name: str) -> Decimal | None:
    usd = number(form, name)
    return None if usd is None else EXACT.scaleb(usd, 2)


def _to(done: str) -> Response:
    return RedirectResponse(link("budgets", done=done), 303, HEADERS)
