"""Schemas of the OpenAPI description in words, and an example of each."""

from collections.abc import Iterator, Mapping
from typing import Any

Schemas = Mapping[str, Any]

_FORMATS = {"date-time": "time", "decimal": "decimal string", "binary": "file"}
_MAX_CHOICES = 8


def name_of(schema: Mapping[str, Any]) -> str:
    """The name that a reference leads to."""
    return str(schema["$ref"]).rpartition("/")[2]


def types_within(part: Any, schemas: Schemas, found: set[str]) -> None:
    """Add the names of all types that a part of the description uses."""
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str) and (name := name_of(part)) not in found:
            found.add(name)
            types_within(schemas[name], schemas, found)
        for key, inner in part.items():
            if key not in ("example", "examples", "mapping"):
                types_within(inner, schemas, found)
    elif isinstance(part, list | tuple):
        for inner in part:
            types_within(inner, schemas, found)


def fields(
    schema: Mapping[str, Any], schemas: Schemas, places: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Each field with its type in words and what it means."""
    required = schema.get("required", schema["properties"])
    for field, value in schema["properties"].items():
        resolved = schemas[name_of(value)] if "$ref" in value else {}
        says = value.get("description") or resolved.get("description", "")
        default = value.get("default")
        more = "" if default in (None, "", []) else f" Default: `{str(default).lower()}`."
        optional = "" if field in required or "default" in value else ", optional"
        yield field, _words(value, schemas, places) + optional, says + more


def _words(value: Mapping[str, Any], schemas: Schemas, places: Mapping[str, str]) -> str:
    if "$ref" in value:
        name = name_of(value)
        if "enum" in schemas[name]:
            return _choices(schemas[name]["enum"])
        return f"[{name}]({places[name]})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return _choices(value["enum"])
    if choices := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_words(each, schemas, places) for each in choices))
    kind = value.get("type", "any value")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_words(value['items'], schemas, places)}" if "items" in value else "list"
    return _FORMATS.get(value.get("format", ""), kind) + _bounds(value)


def _choices(values: list[str]) -> str:
    shown = ", ".join(f"`{each}`" for each in values)
    return shown if len(values) <= _MAX_CHOICES else f"one of {shown}"


def _bounds(value: Mapping[str, Any]) -> str:
    if "maxLength" in value:
        return f", at most {value['maxLength']} characters"
    if value.get("type") == "integer" and {"minimum", "maximum"} <= value.keys() and value["maximum"] < 10**9:
        return f", {int(value['minimum'])} to {int(value['maximum'])}"
    return ""


def example(schema: Mapping[str, Any], schemas: Schemas, *, typed: str = "") -> Any:
    """An example of a value, made of the examples of its parts."""
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "$ref" in schema:
        name = name_of(schema)
        return None if name == typed else example(schemas[name], schemas, typed=name)
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return example(schema[key][0], schemas, typed=typed)
    if schema.get("format") == "date-time":
        return "2026-11-23T15:00:00.123Z"
    if "properties" in schema:
        return _object(schema, schemas, typed)
    if schema.get("type") == "array":
        items = schema.get("items", {})
        choices = not items or ("$ref" in items and "enum" in schemas[name_of(items)])
        return [] if choices else [example(items, schemas, typed=typed)]
    return {"boolean": False, "object": {}}.get(schema.get("type", ""))


def _object(schema: Mapping[str, Any], schemas: Schemas, typed: str) -> dict[str, Any]:
    """All fields that are always there, and those without which nothing would be shown."""
    shown = schema.get("required") or schema["properties"]
    return {
        field: example(value, schemas, typed=typed)
        for field, value in schema["properties"].items()
        if field in shown
    }
