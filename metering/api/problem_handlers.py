"""From failures of a request to answers: expected ones, those of the database and of FastAPI, and all others."""

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from metering.api.gate import HOLDS_PATH
from metering.api.problems import (
    METHOD_NOT_ALLOWED,
    InvalidParameterError,
    NotFoundError,
    ProblemType,
    error_response,
    internal_error,
    problem_response,
)
from metering.core.errors import MeteringError
from metering.db.engine import request_failure

log = logging.getLogger(__name__)

_MAX_SHOWN = 200
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error with problem+json; an unexpected one is logged and answered with status 500."""

    @app.exception_handler(MeteringError)
    def expected(_: Request, error: MeteringError) -> Response:
        return error_response(error)

    @app.exception_handler(DBAPIError)
    def database_failed(_: Request, error: DBAPIError) -> Response:
        problem = request_failure(error)
        if problem is None:
            raise error
        return error_response(problem)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        return error_response(InvalidParameterError("; ".join(dict.fromkeys(_describe(error.errors())))))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == METHOD_NOT_ALLOWED.status:
            allowed = ", ".join(_allowed_methods(request))
            response = problem_response(METHOD_NOT_ALLOWED, f"this path allows {allowed}")
            response.headers["allow"] = allowed
            return response
        if error.status_code == 404:
            return error_response(
                NotFoundError(f"there is no path {request.url.path[:_MAX_SHOWN]}; /docs lists all")
            )
        slug = "http-error"
        response = problem_response(ProblemType(error.status_code, slug, error.detail), error.detail)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        # The server logs the traceback itself; this line says where it came from.
        log.error("unexpected error", extra={"path": request.url.path, "error": type(error).__name__})
        return internal_error()


def _allowed_methods(request: Request) -> list[str]:
    """The methods of this path, of all routes with its template: Starlette names those of the first route only.

    A stream's own path matches `…/resolution`, too, and comes after it.
    """
    asked = {"type", "http_version", "scheme", "path", "raw_path", "root_path", "query_string", "headers", "app"}
    scope = {name: value for name, value in request.scope.items() if name in asked}
    matching = [
        route
        for route in request.app.routes
        if isinstance(route, Route) and route.matches({**scope, "method": "GET"})[0] is not Match.NONE
    ]
    methods = {method for route in matching if route.path == matching[0].path for method in (route.methods or ())}
    if request.url.path == HOLDS_PATH:
        # Posting is answered before the routes.
        methods.add("POST")
    return [method for method in _METHODS if method in methods]


def _describe(errors: Sequence[Any]) -> list[str]:
    """What is wrong, each with the field that it is about."""
    found = []
    for item in errors:
        if item["type"] == "json_invalid":
            found.append(f"the body is not JSON: {item['ctx']['error']}")
            continue
        field = ".".join(str(part) for part in item["loc"] if part not in ("query", "body", "path"))
        found.append(f"{field}: {item['msg']}" if field else item["msg"])
    return found
