"""The forms of the month-end page: close a month, and push its invoices. Workers do both."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.access.store.audit_log import log_action
from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.forms import Form, form_routes, said_on_page
from metering.dashboard.links import link
from metering.dashboard.rendering import see_other
from metering.dashboard.sessions import Viewer
from metering.db.engine import transaction
from metering.months.run_invoices import MonthNotOverError, RunRequest, begin_run
from metering.server.bootstrap import Service
from metering.server.outgoing import close_terms
from metering.stripe.store.pushes import wake_month


def month_end_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms of the month-end page."""
    handlers = {"/month-end/close": _close, "/month-end/push": _push}
    return form_routes(service, handlers, Scope.INVOICES_READ, Scope.INVOICES_WRITE)


def _close(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    period = BillingPeriod.parse(form.get("month", ""))
    if form.get("confirm", "").strip() != str(period):
        raise InvalidFormError(f"confirm: type {period} to close that month")
    request = RunRequest(period=period, requested_by=viewer.actor)
    with said_on_page(MonthNotOverError):
        begin_run(engine=service.engine, request=request, terms=close_terms(service.settings), now=utc_now())
    return _back(period, "close")


def _push(service: Service, _: Request, viewer: Viewer, form: Form) -> Response:
    period, now = BillingPeriod.parse(form.get("month", "")), utc_now()
    with transaction(service.engine) as connection:
        woken = wake_month(connection, period=str(period), now=now)
        log_action(
            connection,
            by=viewer.actor,
            now=now,
            kind="invoices",
            action="push",
            subject=str(period),
            after={"invoices": woken},
        )
    return _back(period, "push")


def _back(period: BillingPeriod, done: str) -> Response:
    return see_other(link("month-end", month=str(period), done=done))
