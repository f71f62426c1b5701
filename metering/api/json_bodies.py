"""JSON bodies of requests, read strictly: what readers of JSON disagree on is refused, and so is deep nesting."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import jiter
from fastapi import Request
from starlette.responses import Response

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRequest(Request):
    """A request whose JSON is UTF-8 without a byte order mark, repeated keys, lone surrogates, NaN or Infinity.

    It may be nested 200 levels deep, and an integer may have 4,300 digits: Python handles these in time.
    """

    async def json(self) -> Any:
        """The decoded body.

        Raises:
            json.JSONDecodeError: it is not such JSON. FastAPI answers it as an invalid body.
        """
        try:
            return jiter.from_json(await self.body(), allow_inf_nan=False, catch_duplicate_keys=True)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


def with_strict_json(handler: Handler) -> Handler:
    """The handler of a route, with a `StrictRequest`."""

    async def handle(request: Request) -> Response:
        return await handler(StrictRequest(request.scope, request.receive))

    return handle
