"""Errors as RFC 9457 problem+json: one table from expected failures to answers, each with a stable `type`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from metering.access.manage_access import KeyBindingError, KeyIdTakenError
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.access.store.keys import InvalidKeyError, UnknownKeyError
from metering.access.store.readers import (
    InvalidReaderNameError,
    ReaderExistsError,
    ReaderRefusedError,
    UnknownReaderError,
)
from metering.alerts.addresses import InvalidUrlError, RefusedAddressError
from metering.alerts.alerts import InvalidAlertError
from metering.alerts.manage_alerts import TooManyAlertsError
from metering.alerts.manage_endpoints import InvalidEndpointError, TooManyEndpointsError
from metering.alerts.replay_webhooks import EndpointDisabledError
from metering.alerts.store.alerts import UnknownAlertError
from metering.alerts.store.deliveries import UnknownDeliveryError
from metering.alerts.store.endpoints import UnknownEndpointError
from metering.api.auth import ForbiddenError, UnauthorizedError
from metering.api.errors import InvalidParameterError, NoEventAcceptedError, NotFoundError
from metering.audit.receipt_document import UnreadableReceiptError
from metering.core.cursors import InvalidCursorError
from metering.core.errors import MeteringError
from metering.core.period import InvalidPeriodError
from metering.corrections.adjust_manually import InvalidAdjustmentError
from metering.corrections.resolve_stream import InvalidResolutionError, NotInBacklogError, UnknownStreamError
from metering.customers.store import StripeCustomerTakenError, UnknownCustomerError
from metering.db.engine import DatabaseUnavailableError, UnsafeDatabaseError
from metering.db.schema import RoleMissingError, SchemaOutdatedError, UnknownSchemaError
from metering.events.wire.decode import TooManyEventsError
from metering.events.wire.split import InvalidJsonError
from metering.exports.columns import UnrepresentableError
from metering.exports.download import ChunksUnsupportedError, TooManyExportsError
from metering.exports.export_month import ExportStoppedError
from metering.exports.month_rows import UnequalExportError
from metering.months.close_months import UnequalSumsError
from metering.months.run_invoices import ForceReasonMissingError, MonthNotOverError
from metering.prices.catalogue import UnknownClauseError
from metering.prices.rating import RateMissingError
from metering.prices.set_rate import InvalidRateError, RateDateTakenError
from metering.prices.set_terms import InvalidMarkupError, TermsDateTakenError
from metering.server.bootstrap import NotConfiguredError
from metering.server.settings import ConfigurationError
from metering.streams.ingest.body import BodyTooLargeError, BrokenBodyError, UnsupportedBodyError
from metering.streams.ingest.writer import NotCommittedError, QueueFullError
from metering.stripe.client.errors import (
    StripeError,
    StripeMissingError,
    StripeRefusedError,
    StripeThrottledError,
    StripeUnauthorizedError,
    StripeUncertainError,
)
from metering.stripe.client.webhook import InvalidWebhookError
from metering.stripe.push_invoice import StartOverError
from metering.stripe.put_customer import UnknownTimeZoneError
from metering.stripe.store.pushes import LeaseLostError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a kind of failure is called on the wire."""

    status: int
    slug: str
    title: str
    retry_after_seconds: int | None = None


PROBLEMS: dict[type[MeteringError], Problem] = {
    NoEventAcceptedError: Problem(422, "invalid-events", "No event was accepted"),
    InvalidJsonError: Problem(422, "invalid-json", "The body is not JSON"),
    BrokenBodyError: Problem(422, "invalid-encoding", "The body cannot be inflated"),
    UnsupportedBodyError: Problem(415, "unsupported-body", "The body's type or encoding is not supported"),
    BodyTooLargeError: Problem(413, "body-too-large", "The body is too large"),
    TooManyEventsError: Problem(413, "too-many-events", "Too many events in one request"),
    QueueFullError: Problem(503, "queue-full", "Too much waits to be stored", retry_after_seconds=1),
    NotCommittedError: Problem(503, "not-committed", "The events were not confirmed", retry_after_seconds=1),
    DatabaseUnavailableError: Problem(503, "store-unavailable", "The store is down", retry_after_seconds=2),
    UnauthorizedError: Problem(401, "unauthorized", "A valid key is needed"),
    ForbiddenError: Problem(403, "forbidden", "The key may not do this"),
    NotFoundError: Problem(404, "not-found", "There is no such thing"),
    InvalidParameterError: Problem(422, "invalid-parameter", "A parameter is wrong"),
    InvalidCursorError: Problem(422, "invalid-parameter", "A parameter is wrong"),
    InvalidPeriodError: Problem(422, "invalid-parameter", "A parameter is wrong"),
    UnknownTimeZoneError: Problem(422, "invalid-parameter", "A parameter is wrong"),
    InvalidRateError: Problem(422, "invalid-rate", "The rates do not make a card"),
    RateDateTakenError: Problem(409, "rate-date-taken", "There is a card for this moment already"),
    InvalidMarkupError: Problem(422, "invalid-parameter", "A parameter is wrong"),
    TermsDateTakenError: Problem(409, "terms-date-taken", "There are terms for this moment already"),
    InvalidAdjustmentError: Problem(422, "invalid-adjustment", "The adjustment cannot be booked"),
    UnknownCustomerError: Problem(404, "not-found", "There is no such thing"),
    IdempotencyKeyReusedError: Problem(422, "idempotency-key-reused", "The key was used for another request"),
    RequestInFlightError: Problem(409, "request-in-flight", "The request is under way", retry_after_seconds=1),
    InvalidResolutionError: Problem(422, "invalid-resolution", "The decision does not settle the stream"),
    NotInBacklogError: Problem(409, "not-in-backlog", "The stream needs no decision"),
    UnknownStreamError: Problem(404, "not-found", "There is no such thing"),
    TooManyExportsError: Problem(503, "too-many-exports", "Too many exports at once", retry_after_seconds=30),
    ChunksUnsupportedError: Problem(505, "http-version", "A newer HTTP is needed"),
    InvalidWebhookError: Problem(400, "invalid-webhook", "The webhook cannot be believed"),
    InvalidAlertError: Problem(422, "invalid-alert", "The terms do not make an alert"),
    UnknownAlertError: Problem(404, "not-found", "There is no such thing"),
    TooManyAlertsError: Problem(409, "too-many-alerts", "There are as many alerts as there may be"),
    InvalidEndpointError: Problem(422, "invalid-webhook-endpoint", "The webhook endpoint makes no sense"),
    InvalidUrlError: Problem(422, "invalid-webhook-url", "No webhook may be sent there"),
    UnknownEndpointError: Problem(404, "not-found", "There is no such thing"),
    TooManyEndpointsError: Problem(409, "too-many-webhook-endpoints", "There are as many as there may be"),
    EndpointDisabledError: Problem(409, "webhook-endpoint-disabled", "The webhook endpoint is disabled"),
    UnknownDeliveryError: Problem(404, "not-found", "There is no such thing"),
    StripeCustomerTakenError: Problem(409, "stripe-customer-taken", "The Stripe customer is taken"),
}

METHOD_NOT_ALLOWED = Problem(405, "method-not-allowed", "Method Not Allowed")

# Raised at start, in workers, by the command line, or within an export whose answer has begun: no request is
# answered with them.
NOT_OVER_HTTP: frozenset[type[MeteringError]] = frozenset(
    {
        ConfigurationError,
        ExportStoppedError,
        ForceReasonMissingError,
        InvalidKeyError,
        InvalidReaderNameError,
        KeyBindingError,
        KeyIdTakenError,
        LeaseLostError,
        MonthNotOverError,
        NotConfiguredError,
        RateMissingError,
        ReaderExistsError,
        ReaderRefusedError,
        RefusedAddressError,
        RoleMissingError,
        SchemaOutdatedError,
        UnknownSchemaError,
        StartOverError,
        StripeError,
        StripeMissingError,
        StripeRefusedError,
        StripeThrottledError,
        StripeUnauthorizedError,
        StripeUncertainError,
        UnequalExportError,
        UnequalSumsError,
        UnknownClauseError,
        UnknownKeyError,
        UnknownReaderError,
        UnreadableReceiptError,
        UnrepresentableError,
        UnsafeDatabaseError,
    }
)


def problem_response(problem: Problem, detail: str, **members: Any) -> Response:
    """The answer for a problem; `members` are further fields of it."""
    body = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        **members,
    }
    headers = {}
    if problem.retry_after_seconds is not None:
        headers["retry-after"] = str(problem.retry_after_seconds)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), problem.status, headers, MEDIA_TYPE)


def error_response(error: MeteringError) -> Response:
    """The answer for an expected failure."""
    problem = next((PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS), None)
    if problem is None:
        raise error
    members = {"rejected": error.rejected} if isinstance(error, NoEventAcceptedError) else {}
    return problem_response(problem, str(error), **members)


def install_problem_handlers(app: FastAPI) -> None:
    """Have every error leave as problem+json; what nobody expected is logged and told to the client as a 500."""

    @app.exception_handler(MeteringError)
    def expected(_: Request, error: MeteringError) -> Response:
        return error_response(error)

    @app.exception_handler(OperationalError)
    def store_down(_: Request, error: OperationalError) -> Response:
        log.error("PostgreSQL failed during a request", extra={"error": str(error.orig).strip()})
        return error_response(DatabaseUnavailableError("PostgreSQL failed during the request: try again"))

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        return error_response(InvalidParameterError("; ".join(_describe(error.errors()))))

    @app.exception_handler(HTTPException)
    def http(_: Request, error: HTTPException) -> Response:
        slug = {404: "not-found", 405: METHOD_NOT_ALLOWED.slug}.get(error.status_code, "http-error")
        response = problem_response(Problem(error.status_code, slug, error.detail), error.detail)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        # The server logs the traceback itself; this line says where it came from.
        log.error("unexpected error", extra={"path": request.url.path, "error": type(error).__name__})
        return problem_response(Problem(500, "internal", "An internal error"), "It was logged; try again.")


def _describe(errors: Sequence[Any]) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in item['loc'] if part not in ('query', 'body', 'path'))}: {item['msg']}"
        for item in errors
    ]
