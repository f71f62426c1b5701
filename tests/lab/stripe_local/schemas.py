"""Requests against Stripe's description by a JSON-schema validator that shares nothing with the local Stripe.

A form has text only, so a schema for it asks for text that reads as what the description wants.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).parents[3]
DESCRIPTION = ROOT / "metering" / "lab" / "stripe_local" / "openapi-requests.json"

_TEXT = {
    "integer": {"type": "string", "pattern": r"^-?\d+$"},
    "number": {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"},
    "boolean": {"enum": ["true", "false"]},
}


@cache
def operations() -> Mapping[str, Mapping[str, Any]]:
    """The description's operations by method and path."""
    paths = json.loads(DESCRIPTION.read_text())["paths"]
    return {
        f"{method.upper()} {path}": each for path, methods in paths.items() for method, each in methods.items()
    }


def problems(endpoint: str, params: Mapping[str, Any]) -> list[str]:
    """What the description has against a request's parameters."""
    errors = jsonschema.Draft202012Validator(_request_schema(endpoint)).iter_errors(params)
    return [f"{endpoint} {error.json_path}: {error.message}" for error in errors]


@cache
def _request_schema(endpoint: str) -> dict[str, Any]:
    operation = operations()[endpoint]
    query = {each["name"]: each for each in operation.get("parameters", []) if each["in"] == "query"}
    (content,) = operation.get("requestBody", {}).get("content", {"": {"schema": {}}}).values()
    body = content["schema"]
    properties = {**body.get("properties", {}), **{name: each["schema"] for name, each in query.items()}}
    required = [*body.get("required", []), *(name for name, each in query.items() if each["required"])]
    return _of_form({"type": "object", "properties": properties, "required": required})


def _of_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "anyOf" in schema:
        return {"anyOf": [_of_form(each) for each in schema["anyOf"]]}
    kind = schema["type"]
    if kind in _TEXT:
        return dict(_TEXT[kind])
    if kind == "array":
        return {"type": "array", "items": _of_form(schema["items"])}
    if kind == "object":
        more = schema.get("additionalProperties", False)
        return {
            "type": "object",
            "properties": {name: _of_form(each) for name, each in schema.get("properties", {}).items()},
            "required": schema.get("required", []),
            "additionalProperties": _of_form(more) if isinstance(more, dict) else more,
        }
    assert kind == "string"
    return {name: schema[name] for name in ("type", "enum", "maxLength") if name in schema}
