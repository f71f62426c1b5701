"""Routes under `/v1`: what they declare, what they refuse, and how their answers are written.

A route declares its scope with `auth.needs`, its answer by its return type, its problems with `raises`, and its
parameters as FastAPI does.
What it does not declare is refused by name: unknown query parameters here, unknown fields of a body by
`parameters.Input`. Answers are encoded as they are built; FastAPI's own validation of an answer would copy it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from http import HTTPStatus
from itertools import groupby
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope as AsgiScope

from metering.access.scopes import Scope
from metering.api.auth import Caller, ForbiddenError, UnauthorizedError
from metering.api.json_bodies import Handler, with_strict_json
from metering.api.key_limits import TooManyRequestsError
from metering.api.parameters import unknown_names
from metering.api.problems import (
    INTERNAL,
    MEDIA_TYPE,
    PROBLEMS,
    InvalidParameterError,
    NoEventAcceptedError,
    NoRecordAcceptedError,
    PayloadTooLargeError,
    ProblemType,
)
from metering.api.shares import BusyError
from metering.core.errors import MeteringError
from metering.db.engine import DatabaseUnavailableError, QueryTimeoutError

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])


class IdConvertor(Convertor[str]):
    """The rest of a path as an id. It may have slashes and line breaks; Starlette's own stops at a line break."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", IdConvertor())

Responses = dict[int | str, dict[str, Any]]

_WITH_REJECTED = frozenset({PROBLEMS[NoEventAcceptedError], PROBLEMS[NoRecordAcceptedError]})

_encode = msgspec.json.Encoder().encode
ANY_ROUTE = (
    UnauthorizedError,
    ForbiddenError,
    InvalidParameterError,
    PayloadTooLargeError,
    TooManyRequestsError,
    BusyError,
    QueryTimeoutError,
    DatabaseUnavailableError,
)


def raises(*errors: type[MeteringError]) -> Callable[[EndpointT], EndpointT]:
    """Declare the problems of a route, besides those that every route under /v1 has."""

    def declare(endpoint: EndpointT) -> EndpointT:
        endpoint.problems = errors  # type: ignore[attr-defined]
        return endpoint

    return declare


class ApiRoute(APIRoute):
    """A route whose answers are encoded as they are built, and whose problems are described."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # A route that declares no scope is a mistake that stops the start.
        self.scope: Scope = endpoint.scope  # type: ignore[attr-defined]
        options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "x-scope": self.scope.value}
        declared: Sequence[type[MeteringError]] = getattr(endpoint, "problems", ())
        options["responses"] = problem_responses(*ANY_ROUTE, *declared) | (options.get("responses") or {})
        super().__init__(path, _encoding(endpoint, options.get("status_code") or 200), **options)
        self.query_names = frozenset(_query_names(self.dependant))

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, with bodies read strictly."""
        return with_strict_json(super().get_route_handler())


def _query_names(dependant: Dependant) -> Iterator[str]:
    """The query parameters of a route and of all that it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _query_names(inner)


def _encoding(endpoint: Callable[..., Any], status_code: int) -> Callable[..., Response]:
    """The endpoint with its answer as JSON, or without a body for None."""

    @wraps(endpoint)
    def answer(**values: Any) -> Response:
        built = endpoint(**values)
        if isinstance(built, Response):
            return built
        if built is None:
            return Response(status_code=status_code)
        return Response(_encode(built), status_code, media_type="application/json")

    return answer


async def _refuse_unknown_parameters(request: Request, _: Caller) -> None:
    """Refuse a query parameter that the route does not have, and one that is given twice: no parameter is a list.

    It needs the key first: a request without one, or with one that may not do this, learns nothing but that.
    """
    if not request.scope["query_string"]:
        return
    known: frozenset[str] = request.scope["route"].query_names
    given = [name for name, _ in request.query_params.multi_items()]
    if unknown := [name for name in dict.fromkeys(given) if name not in known]:
        raise InvalidParameterError(unknown_names(unknown, known=sorted(known), what="query parameter"))
    if repeated := [name for name in known if given.count(name) > 1]:
        raise InvalidParameterError(f"{min(repeated)}: given more than once; give it once")


def v1_router(tag: str, *, route_class: type[ApiRoute] = ApiRoute) -> APIRouter:
    """A router for paths under /v1."""
    return APIRouter(
        prefix="/v1", tags=[tag], route_class=route_class, dependencies=[Depends(_refuse_unknown_parameters)]
    )


def route_ending_in(suffix: str) -> type[ApiRoute]:
    """A route that matches only where the suffix was sent as such: a stream's id may end in `%2Fevents`."""

    class SuffixRoute(ApiRoute):
        def matches(self, scope: AsgiScope) -> tuple[Match, AsgiScope]:
            if not scope.get("raw_path", b"").endswith(suffix.encode()):
                return Match.NONE, {}
            return super().matches(scope)

    return SuffixRoute


def problem_responses(*errors: type[MeteringError]) -> Responses:
    """The answers of these failures and of an internal error, as OpenAPI describes them: one for each status."""
    details = {PROBLEMS[error]: _first_sentence(error) for error in errors} | {INTERNAL: "The error was logged."}
    found = sorted(details, key=lambda each: (each.status, each.slug))
    return {
        status: _problem_response(list(same), details)
        for status, same in groupby(found, key=lambda each: each.status)
    }


def _first_sentence(error: type[MeteringError]) -> str:
    return (error.__doc__ or "").partition("\n\n")[0].replace("\n    ", " ")


def _problem_response(problems: Sequence[ProblemType], details: Mapping[ProblemType, str]) -> dict[str, Any]:
    status = problems[0].status
    model = "Problem" if _WITH_REJECTED.isdisjoint(problems) else "EventsProblem"
    types = ", ".join(f"`/problems/{each.slug}`" for each in problems)
    described: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {types}",
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": f"#/components/schemas/{model}"},
                "examples": {each.slug: _example(each, details[each]) for each in problems},
            }
        },
    }
    headers = {}
    if any(each.retry_after_seconds is not None for each in problems):
        says = "Seconds after which the request may be sent again."
        headers["Retry-After"] = {"description": says, "schema": {"type": "integer"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "`Bearer`", "schema": {"type": "string"}}
    return described | ({"headers": headers} if headers else {})


def _example(problem: ProblemType, detail: str) -> dict[str, Any]:
    value = {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "request_id": "req_0f3a9c1e5b7d2468",
    }
    return {"summary": problem.title, "value": value}
