"""The parameters of a request: read from the form, and checked against Stripe's own request description."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from metering.lab.stripe_local.errors import RefusedError, invalid

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_KEY = re.compile(r"\[([^\[\]]*)\]")
_MAX_DEPTH = 8
_INTEGER = re.compile(r"-?\d{1,18}")

Schema = Mapping[str, Any]


def parse_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`lines[0][amount]=5` and `expand[]=a` as nested dictionaries and lists of text.

    Raises:
        RefusedError: a name is malformed, or is given as a value and as an object.
    """
    tree: dict[str, Any] = {}
    for name, value in pairs:
        found = _NAME.fullmatch(name)
        keys = [found[1], *_KEY.findall(found[2])] if found else []
        if not found or len(keys) > _MAX_DEPTH:
            raise RefusedError(f"Invalid parameter name: {name[:100]}", kept=False)
        _put(tree, keys, value, name)
    return {key: _listed(value) for key, value in tree.items()}


def _put(tree: dict[str, Any], keys: list[str], value: str, name: str) -> None:
    *path, last = keys
    for key in path:
        tree = tree.setdefault(key if key else str(len(tree)), {})
        if not isinstance(tree, dict):
            raise RefusedError(f"Invalid parameter: {name[:100]} is given as a value and as an object", kept=False)
    tree[last if last else str(len(tree))] = value


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each) for key, each in value.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation, such as `POST /v1/invoices/{invoice}/finalize`."""

    method: str
    path: str
    schema: Schema

    @property
    def endpoint(self) -> str:
        """The name of the operation for faults and limits."""
        return f"{self.method} {self.path}"


@cache
def load() -> tuple[tuple[re.Pattern[str], Operation], ...]:
    """Every operation of the file with the pattern of its path; paths without placeholders come first."""
    text = files("metering.lab.stripe_local").joinpath("openapi-requests.json").read_text()
    found: list[tuple[re.Pattern[str], Operation]] = []
    for path, methods in json.loads(text)["paths"].items():
        pattern = _pattern(path)
        for method, details in methods.items():
            found.append((pattern, Operation(method.upper(), path, _schema(details))))
    return tuple(sorted(found, key=lambda each: each[1].path.count("{")))


_TEXT, _TIME = {"type": "string"}, {"type": "integer"}
_CLOCKS = "/v1/test_helpers/test_clocks"
# Test clocks are not in the file; their few requests are described here.
_TEST_CLOCKS: tuple[tuple[str, str, dict[str, Schema], list[str]], ...] = (
    ("POST", _CLOCKS, {"frozen_time": _TIME, "name": _TEXT}, ["frozen_time"]),
    ("GET", _CLOCKS, {"limit": _TIME, "starting_after": _TEXT, "ending_before": _TEXT}, []),
    ("GET", f"{_CLOCKS}/{{test_clock}}", {}, []),
    ("POST", f"{_CLOCKS}/{{test_clock}}/advance", {"frozen_time": _TIME}, ["frozen_time"]),
)


@cache
def _load_test_clocks() -> tuple[tuple[re.Pattern[str], Operation], ...]:
    expand: Schema = {"type": "array", "items": _TEXT}
    return tuple(
        (
            _pattern(path),
            Operation(
                method,
                path,
                {"type": "object", "properties": {**properties, "expand": expand}, "required": required},
            ),
        )
        for method, path, properties, required in _TEST_CLOCKS
    )


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))


def _schema(details: Mapping[str, Any]) -> Schema:
    """The parameters of the query and of the body as one object."""
    query = [each for each in details.get("parameters", []) if each["in"] == "query"]
    contents = details.get("requestBody", {}).get("content", {})
    body: Schema = next((content["schema"] for content in contents.values()), {})
    return {
        "type": "object",
        "properties": {**body.get("properties", {}), **{each["name"]: each["schema"] for each in query}},
        "required": [*body.get("required", []), *(each["name"] for each in query if each.get("required"))],
        "additionalProperties": False,
    }


def find(method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """The operation of a request, and the parameters in its path.

    Raises:
        RefusedError: 404, there is no such operation.
    """
    for pattern, operation in (*load(), *_load_test_clocks()):
        if operation.method == method and (match := pattern.fullmatch(path)):
            return operation, match.groupdict()
    raise RefusedError(f"Unrecognized request URL ({method}: {path}).", status=404, kept=False)


def coerce(value: Any, schema: Schema, name: str) -> Any:
    """A value of the form as the schema's type.

    Raises:
        RefusedError: the value does not fit the schema; the message names the parameter.
    """
    if "anyOf" in schema:
        return _coerce_any(value, schema["anyOf"], name)
    match schema.get("type"):
        case "object":
            return _coerce_object(value, schema, name)
        case "array":
            if not isinstance(value, list):
                raise invalid(f"Invalid array: {name}", code="parameter_invalid_array", param=name)
            return [coerce(each, schema["items"], f"{name}[{place}]") for place, each in enumerate(value)]
        case "integer":
            if not isinstance(value, str) or not _INTEGER.fullmatch(value):
                raise invalid(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
            return int(value)
        case "boolean":
            if value not in ("true", "false"):
                raise invalid(f"Invalid boolean: {value}", code="parameter_invalid_boolean", param=name)
            return value == "true"
        case "number":
            return _coerce_number(value, name)
    return _coerce_text(value, schema, name)


def _coerce_any(value: Any, schemas: list[Schema], name: str) -> Any:
    first: RefusedError | None = None
    for schema in schemas:
        try:
            return coerce(value, schema, name)
        except RefusedError as error:
            first = first or error
    assert first is not None
    raise first


def _coerce_object(value: Any, schema: Schema, name: str) -> dict[str, Any]:
    if isinstance(value, list):
        value = {str(place): each for place, each in enumerate(value)}  # metadata whose keys are numbers
    if not isinstance(value, dict):
        raise invalid(f"Invalid object: {name}", code="parameter_invalid_object", param=name)
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", False)
    found = {}
    for key, each in value.items():
        inner = f"{name}[{key}]" if name else key
        if key in properties:
            found[key] = coerce(each, properties[key], inner)
        elif more:
            found[key] = coerce(each, more if isinstance(more, dict) else {"type": "string"}, inner)
        else:
            raise invalid(f"Received unknown parameter: {inner}", code="parameter_unknown", param=inner)
    for key in schema.get("required", []):
        if key not in found:
            inner = f"{name}[{key}]" if name else key
            raise invalid(f"Missing required param: {inner}.", code="parameter_missing", param=inner)
    return found


def _coerce_number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise invalid(f"Invalid number: {value}", code="parameter_invalid_number", param=name) from error


def _coerce_text(value: Any, schema: Schema, name: str) -> str:
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {name}", code="parameter_invalid_string", param=name)
    if "enum" in schema and value not in schema["enum"]:
        expected = ", ".join(map(str, schema["enum"]))
        raise invalid(f"Invalid {name}: must be one of {expected}", code="parameter_invalid_enum", param=name)
    if len(value) > schema.get("maxLength", 5000):
        raise invalid(f"Invalid string: {name} is too long", code="parameter_invalid_string", param=name)
    return value
