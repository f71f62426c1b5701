"""The forms of the month-end page: close a month, and push its invoices. Workers do both."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from metering.access.scopes import Scope
from metering.access.store.audit_log import log_action
from metering.core.clock import utc_now
from metering.core.period import BillingPeriod
from metering.dashboard.access import needs
from metering.dashboard.errors import InvalidFormError
from metering.dashboard.forms import read_signed_form
from metering.dashboard.links import link
from metering.dashboard.rendering import HEADERS
from metering.dashboard.sessions import Viewer
from metering.db.engine import transaction
from metering.months.run_invoices import MonthNotOverError, RunRequest, begin_run
from metering.server.bootstrap import Service
from metering.server.outgoing import close_terms
from metering.stripe.store.pushes import wake_month

Form = dict[str, str]


def month_end_form_routes(service: Service) -> list[Route]:
    """The routes that receive the forms of the month-end page."""

    @needs(Scope.INVOICES_READ, Scope.INVOICES_WRITE)
    async def close(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_close, service, viewer, form)

    @needs(Scope.INVOICES_READ, Scope.INVOICES_WRITE)
    async def push(request: Request) -> Response:
        viewer, form = await read_signed_form(request, engine=service.engine)
        return await run_in_threadpool(_push, service, viewer, form)

    return [
        Route("/month-end/close", close, methods=["POST"]),
        Route("/month-end/push", push, methods=["POST"]),
    ]


def _close(service: Service, viewer: Viewer, form: Form) -> Response:
    period = BillingPeriod.parse(form.get("month", ""))
    if form.get("confirm", "").strip() != str(period):
        raise InvalidFormError(f"confirm: type {period} to close that month")
    request = RunRequest(period=period, requested_by=viewer.actor)
    try:
        begin_run(engine=service.engine, request=request, terms=close_terms(service.settings), now=utc_now())
    except MonthNotOverError as error:
        raise InvalidFormError(str(error)) from error
    return _back(period, "close")


def _push(service: Service, viewer: Viewer, form: Form) -> Response:
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
    return RedirectResponse(link("month-end", month=str(period), done=done), status_code=303, headers=HEADERS)
