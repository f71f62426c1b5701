"""The bodies that `/openapi.json` shows as examples: the service takes each of them as it stands."""

from typing import Any

import pytest

from tests.docs.api_reference import description
from tests.docs.schema_words import example
from tests.running_api import Api

SCHEMA = description()
# What a body is about need not exist here, and may be there already.
_TAKEN = (200, 201, 204, 404, 409)
SHOWN = [
    (method.upper(), path, operation)
    for path, methods in SCHEMA["paths"].items()
    for method, operation in methods.items()
    if "requestBody" in operation and "security" in operation
]


def _bodies(operation: dict[str, Any]) -> list[Any]:
    content = operation["requestBody"]["content"]["application/json"]
    several = [each["value"] for each in content.get("examples", {}).values()]
    return several or [content["example"]]


def _name(part: Any) -> str:
    return part if isinstance(part, str) else part["operationId"]


@pytest.mark.parametrize(("method", "path", "operation"), SHOWN, ids=_name)
def test_a_body_that_is_shown_is_one_that_is_taken(
    shared_api: Api, method: str, path: str, operation: dict[str, Any]
) -> None:
    parameters = operation.get("parameters", ())
    values = {each["name"]: example(each["schema"], SCHEMA["components"]["schemas"]) for each in parameters}
    headers = {each["name"]: values[each["name"]] for each in parameters if each["in"] == "header"}
    query = {
        each["name"]: values[each["name"]] for each in parameters if each["in"] == "query" and each["required"]
    }
    for body in _bodies(operation):
        answer = shared_api.client.request(method, path.format(**values), params=query, json=body, headers=headers)
        assert answer.status_code in _TAKEN, answer.text
