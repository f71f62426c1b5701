"""Errors as RFC 9457 problem+json: one table from expected failures to answers, each with a stable `type`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from metering.access.keys import UnknownKeyError
from metering.access.manage_access import (
    InvalidOverlapError,
    KeyBindingError,
    KeyNotActiveError,
    ScopeExceededError,
)
from metering.access.scopes import InvalidScopeError
from metering.access.store.idempotency import IdempotencyKeyReusedError, RequestInFlightError
from metering.alerts.addresses import InvalidUrlError
from metering.alerts.alerts import InvalidAlertError
from metering.alerts.manage_alerts import TooManyAlertsError
from metering.alerts.manage_endpoints import InvalidEndpointError, TooManyEndpointsError
from metering.alerts.replay_webhooks import EndpointDisabledError
from metering.alerts.store.alerts import UnknownAlertError
from metering.alerts.store.deliveries import UnknownDeliveryError
from metering.alerts.store.endpoints import UnknownEndpointError
from metering.api.answers import time_text
from metering.api.auth import ForbiddenError, UnauthorizedError
from metering.api.key_limits import TooManyRequestsError
from metering.api.shares import BusyError
from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.admit_holds import HoldDiffersError, StreamFinalError
from metering.budgets.hold_price import OutputUnknownError, PriceUnknownError
from metering.budgets.hold_writer import HoldNotCommittedError, HoldQueueFullError
from metering.budgets.release_hold import StreamStartedError, UnknownHoldError
from metering.budgets.set_budget import BudgetDiffersError, InvalidBudgetError, UnknownBudgetError
from metering.core.cursors import InvalidCursorError
from metering.core.errors import MeteringError
from metering.core.money import cents_text
from metering.core.period import InvalidPeriodError
from metering.core.request_id import REQUEST_ID_HEADER, current_request_id
from metering.corrections.adjust_manually import InvalidAdjustmentError
from metering.corrections.examine_stream import StreamChangedError
from metering.corrections.resolve_stream import InvalidResolutionError, NotInBacklogError, UnknownStreamError
from metering.credits.create_grant import TooManyGrantsError
from metering.credits.end_grant import GrantNotActiveError, UnknownGrantError
from metering.credits.terms import InvalidGrantError
from metering.credits.top_up import InvalidTopUpError
from metering.customers.check_time_zone import UnknownTimeZoneError
from metering.customers.store import InvalidCustomerIdError, StripeCustomerTakenError, UnknownCustomerError
from metering.db.engine import DatabaseUnavailableError, QueryTimeoutError, UnsafeDatabaseError
from metering.events.wire.decode import TooManyEventsError, TooManyValuesError
from metering.events.wire.rejections import Rejection
from metering.events.wire.split import InvalidJsonError
from metering.exports.download import ChunksUnsupportedError, TooManyExportsError
from metering.exports.export_month import NotForExcelError
from metering.ledger.store.open_periods import UnusableTimeZoneError
from metering.prices.check_rates import InvalidRateError
from metering.prices.set_rate import RateDateTakenError
from metering.prices.set_terms import InvalidMarkupError, TermsDateTakenError
from metering.streams.ingest.body import BodyTooLargeError, BrokenBodyError, UnsupportedBodyError
from metering.streams.ingest.submission import KeyQueueFullError, NotCommittedError, QueueFullError
from metering.streams.store.archived import StreamArchivedError
from metering.stripe.client.webhook import InvalidWebhookError
from metering.translations.otlp.records import InvalidOtlpError, TooManyFieldsError
from metering.translations.otlp.translate import TooManyCallsError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class NotFoundError(MeteringError):
    """The path names something that does not exist, or that this key may not see."""


class InvalidParameterError(MeteringError):
    """A parameter or a field of the body is invalid or unknown; the message names it."""


class PayloadTooLargeError(MeteringError):
    """The body has more bytes than this path accepts; the rest is not read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the body has more than {most // 1024} KiB, the most that this path accepts")


class NoEventAcceptedError(MeteringError):
    """Every event of the request was rejected, or the batch is empty."""

    def __init__(self, rejected: Sequence[Rejection]) -> None:
        super().__init__(
            f"all {len(rejected)} events were rejected"
            if rejected
            else "the batch is empty: send at least one event"
        )
        self.rejected = rejected


class NoRecordAcceptedError(MeteringError):
    """No record of the request could be used."""

    def __init__(self, rejected: Sequence[Rejection]) -> None:
        super().__init__(f"none of {len(rejected)} records could be used; the first: {rejected[0].detail}")
        self.rejected = rejected


class Problem(TypedDict):
    """An error, as RFC 9457 has it."""

    type: Annotated[
        str,
        Field(
            description="The kind of problem, as a relative URI. It is stable: decide by it, not by the texts.",
            pattern="^/problems/[a-z-]+$",
            json_schema_extra={"format": "uri-reference"},
            examples=["/problems/invalid-parameter"],
        ),
    ]
    title: Annotated[str, Field(description="The kind of problem in words.", examples=["Invalid parameter"])]
    status: Annotated[int, Field(description="The HTTP status.", ge=400, le=599, examples=[422])]
    detail: Annotated[
        str,
        Field(
            description="What is wrong with this request, and what to do.",
            examples=["customer: unknown query parameter, did you mean customer_id?"],
        ),
    ]
    request_id: Annotated[
        str,
        Field(
            description="The id of the request, as in the header `X-Request-Id` and in the log.",
            examples=["req_0f3a9c1e5b7d2468"],
        ),
    ]


@dataclass(frozen=True, slots=True)
class ProblemType:
    """What a kind of failure is called on the wire."""

    status: int
    slug: str
    title: str
    retry_after_seconds: int | None = None


PROBLEMS: dict[type[MeteringError], ProblemType] = {
    NoEventAcceptedError: ProblemType(422, "invalid-events", "No event was accepted"),
    NoRecordAcceptedError: ProblemType(400, "no-record-accepted", "No record was accepted"),
    InvalidJsonError: ProblemType(422, "invalid-json", "Body is not JSON"),
    BrokenBodyError: ProblemType(422, "invalid-encoding", "Body cannot be decompressed"),
    UnsupportedBodyError: ProblemType(415, "unsupported-body", "Unsupported media type or encoding"),
    BodyTooLargeError: ProblemType(413, "body-too-large", "Body too large"),
    TooManyValuesError: ProblemType(413, "too-many-values", "Too many values"),
    TooManyEventsError: ProblemType(413, "too-many-events", "Too many events"),
    InvalidOtlpError: ProblemType(400, "invalid-otlp", "Body is not OTLP"),
    TooManyFieldsError: ProblemType(413, "too-many-values", "Too many values"),
    TooManyCallsError: ProblemType(413, "too-many-events", "Too many events"),
    KeyQueueFullError: ProblemType(429, "too-many-requests", "Too many requests", retry_after_seconds=1),
    QueueFullError: ProblemType(503, "queue-full", "Ingest queue full", retry_after_seconds=1),
    NotCommittedError: ProblemType(503, "not-committed", "Commit not confirmed", retry_after_seconds=1),
    DatabaseUnavailableError: ProblemType(503, "store-unavailable", "Database unavailable", retry_after_seconds=2),
    UnsafeDatabaseError: ProblemType(503, "store-unsafe", "Database not durable", retry_after_seconds=5),
    QueryTimeoutError: ProblemType(503, "query-timeout", "Query took too long", retry_after_seconds=5),
    BusyError: ProblemType(503, "busy", "Too many concurrent requests", retry_after_seconds=1),
    TooManyRequestsError: ProblemType(429, "too-many-requests", "Too many requests", retry_after_seconds=1),
    PayloadTooLargeError: ProblemType(413, "body-too-large", "Body too large"),
    UnauthorizedError: ProblemType(401, "unauthorized", "Valid key required"),
    ForbiddenError: ProblemType(403, "forbidden", "Key not allowed"),
    NotFoundError: ProblemType(404, "not-found", "Not found"),
    InvalidParameterError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    NotForExcelError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    InvalidCursorError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    InvalidPeriodError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    UnknownTimeZoneError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    InvalidRateError: ProblemType(422, "invalid-rate", "Invalid rate card"),
    RateDateTakenError: ProblemType(409, "rate-date-taken", "Rate card date taken"),
    InvalidMarkupError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    TermsDateTakenError: ProblemType(409, "terms-date-taken", "Effective date taken"),
    UnusableTimeZoneError: ProblemType(409, "unusable-time-zone", "Time zone unusable"),
    InvalidAdjustmentError: ProblemType(422, "invalid-adjustment", "Invalid adjustment"),
    UnknownCustomerError: ProblemType(404, "not-found", "Not found"),
    IdempotencyKeyReusedError: ProblemType(422, "idempotency-key-reused", "Idempotency key reused"),
    RequestInFlightError: ProblemType(409, "request-in-flight", "Request in progress", retry_after_seconds=1),
    InvalidGrantError: ProblemType(422, "invalid-grant", "Invalid grant"),
    InvalidTopUpError: ProblemType(422, "invalid-top-up", "Invalid top-up"),
    UnknownGrantError: ProblemType(404, "not-found", "Not found"),
    TooManyGrantsError: ProblemType(409, "too-many-grants", "Grant limit reached"),
    GrantNotActiveError: ProblemType(409, "grant-not-active", "Grant not active"),
    InvalidResolutionError: ProblemType(422, "invalid-resolution", "Invalid resolution"),
    NotInBacklogError: ProblemType(409, "not-in-backlog", "Stream not in backlog"),
    StreamChangedError: ProblemType(409, "stream-changed", "Stream has changed"),
    UnknownStreamError: ProblemType(404, "not-found", "Not found"),
    StreamArchivedError: ProblemType(410, "stream-archived", "Stream archived"),
    TooManyExportsError: ProblemType(
        503, "too-many-exports", "Too many concurrent exports", retry_after_seconds=30
    ),
    ChunksUnsupportedError: ProblemType(505, "http-version", "HTTP version not supported"),
    InvalidWebhookError: ProblemType(400, "invalid-webhook", "Invalid webhook signature"),
    InvalidAlertError: ProblemType(422, "invalid-alert", "Invalid alert"),
    UnknownAlertError: ProblemType(404, "not-found", "Not found"),
    TooManyAlertsError: ProblemType(409, "too-many-alerts", "Alert limit reached"),
    InvalidEndpointError: ProblemType(422, "invalid-webhook-endpoint", "Invalid webhook endpoint"),
    InvalidUrlError: ProblemType(422, "invalid-webhook-url", "Webhook URL not allowed"),
    UnknownEndpointError: ProblemType(404, "not-found", "Not found"),
    TooManyEndpointsError: ProblemType(409, "too-many-webhook-endpoints", "Webhook endpoint limit reached"),
    EndpointDisabledError: ProblemType(409, "webhook-endpoint-disabled", "Webhook endpoint disabled"),
    UnknownDeliveryError: ProblemType(404, "not-found", "Not found"),
    UnknownKeyError: ProblemType(404, "not-found", "Not found"),
    KeyNotActiveError: ProblemType(409, "key-not-active", "Key not active"),
    KeyBindingError: ProblemType(422, "invalid-key", "Invalid key"),
    InvalidScopeError: ProblemType(422, "invalid-key", "Invalid key"),
    InvalidOverlapError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    ScopeExceededError: ProblemType(403, "forbidden", "Key not allowed"),
    BudgetExhaustedError: ProblemType(402, "budget-exhausted", "Budget exhausted"),
    PriceUnknownError: ProblemType(422, "price-unknown", "Price unknown"),
    OutputUnknownError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    HoldDiffersError: ProblemType(409, "hold-differs", "Hold differs"),
    StreamFinalError: ProblemType(409, "stream-final", "Stream final"),
    StreamStartedError: ProblemType(409, "stream-started", "Stream started"),
    UnknownHoldError: ProblemType(404, "not-found", "Not found"),
    HoldQueueFullError: ProblemType(503, "queue-full", "Ingest queue full", retry_after_seconds=1),
    HoldNotCommittedError: ProblemType(503, "not-committed", "Commit not confirmed", retry_after_seconds=1),
    InvalidBudgetError: ProblemType(422, "invalid-budget", "Invalid budget"),
    BudgetDiffersError: ProblemType(409, "budget-differs", "Budget differs"),
    UnknownBudgetError: ProblemType(404, "not-found", "Not found"),
    InvalidCustomerIdError: ProblemType(422, "invalid-parameter", "Invalid parameter"),
    StripeCustomerTakenError: ProblemType(409, "stripe-customer-taken", "Stripe customer taken"),
}

METHOD_NOT_ALLOWED = ProblemType(405, "method-not-allowed", "Method not allowed")
INTERNAL = ProblemType(500, "internal", "Internal error")


# What these say names hosts, sockets and settings, which belong into the log.
_PRIVATE: dict[type[MeteringError], str] = {
    DatabaseUnavailableError: "the database cannot be used now: try again",
    UnsafeDatabaseError: "the database could lose what it stores, so nothing is accepted now: try again",
}


def problem_response(
    problem: ProblemType, detail: str, *, retry_after_seconds: int | None = None, **members: Any
) -> Response:
    """The answer for a problem; `members` are further fields of it."""
    request_id = current_request_id()
    body = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "request_id": request_id,
        **members,
    }
    # Here as well, because the answer to an unexpected error does not pass the gate.
    headers = {REQUEST_ID_HEADER: request_id} if request_id is not None else {}
    wait = retry_after_seconds or problem.retry_after_seconds
    if wait is not None:
        headers["retry-after"] = str(wait)
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), problem.status, headers, MEDIA_TYPE)


def _budget_members(error: BudgetExhaustedError) -> dict[str, Any]:
    """What a refused hold says beside the usual members: the figures of the budget that refuses it."""
    standing = error.standing
    return {
        "budget_id": standing.budget_id,
        "limit_usd_cents": cents_text(standing.limit_usd_cents),
        "spent_usd_cents": cents_text(standing.spent_usd_cents),
        "held_usd_cents": cents_text(standing.held_usd_cents),
        "needed_usd_cents": cents_text(error.needed_usd_cents),
        "max_output_tokens_that_fit": error.max_output_tokens_that_fit,
        "resets_at": time_text(standing.resets_at) if standing.resets_at else None,
    }


def public_detail(error: MeteringError) -> str:
    """What a client may know about a failure."""
    return next((says for kind, says in _PRIVATE.items() if isinstance(error, kind)), str(error))


def internal_error() -> Response:
    """The answer for an unexpected failure, which the caller has logged."""
    return problem_response(INTERNAL, "The error was logged; try again.")


def error_response(error: MeteringError) -> Response:
    """The answer for an expected failure."""
    problem = next((PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS), None)
    if problem is None:
        raise error
    told = NoEventAcceptedError | NoRecordAcceptedError
    members = {"rejected": error.rejected} if isinstance(error, told) else {}
    if isinstance(error, BudgetExhaustedError):
        members = _budget_members(error)
    wait = error.retry_after_seconds if isinstance(error, TooManyRequestsError) else None
    return problem_response(problem, public_detail(error), retry_after_seconds=wait, **members)
