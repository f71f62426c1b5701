"""Checks that answers are as `/openapi.json` describes them: the status, the media type and every field."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx2
import jsonschema

from metering.api.app import create_app
from metering.server.bootstrap import Service

Schema = dict[str, Any]

# Events are kept as they were sent, unknown fields included; an alert's data goes with its kind.
_OPEN = {"StreamStart", "StreamStartData", "TokenDelivered", "TokenDeliveredData", "StreamEnd", "StreamEndData"}


def operations(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Each operation of a description, as (path, method, operation)."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def check_answers(service: Service) -> Callable[[httpx2.Response], None]:
    """A hook for a client that fails where an answer is not as described. Unknown paths and methods pass."""
    schema: Schema = create_app(service).openapi()
    closed = {**schema, "components": {"schemas": _closed(schema["components"]["schemas"])}}
    routes = [
        (method.upper(), re.compile(re.sub(r"\{stream_id\}|\{\w+_id\}|\{model\}", ".+", _dotted(path))), operation)
        for path, method, operation in sorted(operations(closed), key=lambda each: -len(each[0]))
    ]

    @cache
    def validator(ref: str) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator(
            {"$ref": ref, "components": closed["components"]},
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )

    def check(response: httpx2.Response) -> None:
        path = response.request.url.raw_path.partition(b"?")[0].decode()
        found = [
            each
            for method, pattern, each in routes
            if method == response.request.method
            if pattern.fullmatch(path)
        ]
        if not found:
            return
        described = found[0]["responses"].get(str(response.status_code))
        assert described is not None, f"{response.request.method} {path}: {response.status_code} is not described"
        media_type = response.headers.get("content-type", "").partition(";")[0]
        assert (media_type in described.get("content", {})) or (not media_type and "content" not in described), (
            path
        )
        if media_type.endswith("json"):
            response.read()
            validator(described["content"][media_type]["schema"]["$ref"]).validate(response.json())

    return check


def _dotted(path: str) -> str:
    return re.sub(r"\{(kind|format|provider)\}", "[^/.]+", path.replace(".", r"\."))


def _closed(schemas: dict[str, Schema]) -> dict[str, Schema]:
    """The same schemas, refusing fields that they do not declare."""
    return {
        name: schema if name in _OPEN or "properties" not in schema else {**schema, "additionalProperties": False}
        for name, schema in schemas.items()
    }
