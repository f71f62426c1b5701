"""The forms of the budgets page: set a budget, end it."""

from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
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
from metering.customers.store import UnknownCustomerError
from metering.dashboard.fields import FieldError, cents, number, required_text
from metering.dashboard.forms import Form, form_routes, said_on_page
from metering.dashboard.links import link
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.server.bootstrap import Service

ChoiceT = TypeVar("ChoiceT", BudgetWindow, BudgetAction)
_MAX_ID = 128


def budget_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms."""
    handlers = {"/budgets/set": _set, "/budgets/end": _end}
    return form_routes(service, handlers, Scope.BUDGETS_READ, Scope.BUDGETS_WRITE)


def _set(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    budget_id = required_text(form, "budget_id", longest=_MAX_ID)
    terms = BudgetTerms(
        scope=_scope(form),
        window=_one_of(form, "window", BudgetWindow),
        limit_usd_cents=cents(number(form, "usd")),
        action=_one_of(form, "action", BudgetAction),
        unknown_price_usd_cents=cents(number(form, "unknown_usd")),
    )
    with said_on_page(InvalidBudgetError, BudgetDiffersError, UnknownCustomerError):
        set_budget(engine=service.engine, budget_id=budget_id, terms=terms, by=viewer.actor, now=utc_now())
    return _to(f"Budget {budget_id} set.")


def _end(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    budget_id = required_text(form, "budget_id", longest=_MAX_ID)
    if form.get("confirm", "").strip() != budget_id:
        raise FieldError("confirm", "type the id of the budget to end it")
    with said_on_page(UnknownBudgetError):
        end_budget(engine=service.engine, budget_id=budget_id, by=viewer.actor, now=utc_now())
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


def _one_of(form: Form, name: str, choices: type[ChoiceT]) -> ChoiceT:
    try:
        return choices(form.get(name, ""))
    except ValueError as error:
        raise FieldError(name, f"expected one of {', '.join(choices)}") from error


def _to(done: str) -> Response:
    return see_other(link("budgets", done=done))
