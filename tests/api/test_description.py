"""`/openapi.json`: valid OpenAPI 3.1 that describes every answer, every problem, every field and every event."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from metering.api.problems import PROBLEMS
from tests.api.declared_access import API
from tests.api.described import Schema, operations
from tests.builders.posted import delivered, end, start
from tests.running_api import Api

PROBLEM_JSON = "application/problem+json"


@pytest.fixture(scope="module")
def schema(shared_api: Api) -> Schema:
    described: Schema = shared_api.client.get("/openapi.json").json()
    return described


def components(schema: Schema) -> dict[str, Schema]:
    found: dict[str, Schema] = schema["components"]["schemas"]
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def test_it_is_valid_openapi(schema: Schema) -> None:
    assert schema["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(schema).validate()
    known = {f"#/components/schemas/{name}" for name in components(schema)}
    assert set(references(schema)) <= known


def test_the_wrong_default_of_the_framework_is_nowhere(schema: Schema) -> None:
    assert "ValidationError" not in json.dumps(schema)


def test_the_introduction_says_what_all_calls_share(schema: Schema) -> None:
    text = schema["info"]["description"]
    for word in ("Authentication", "Money", "Time", "Pages", "Errors", "Repeating requests", "half-open", "405"):
        assert word in text
    described = {tag["name"]: tag["description"] for tag in schema["tags"]}
    used = {tag for _, _, operation in operations(schema) for tag in operation["tags"]}
    assert set(described) == used


def test_every_operation_has_a_name_of_its_own_a_summary_and_a_description(schema: Schema) -> None:
    names = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(set(names)) == len(names)
    assert {"postEvents", "listCharges", "getStream", "putCustomer", "listTotals", "getStatement"} <= set(names)
    verbs = "list|get|put|post|create|patch|delete|end|refund|release|resolve|revoke|rotate|test|replay|take|void"
    assert not [name for name in names if not re.fullmatch(rf"({verbs})[A-Z]\w+", name)]
    for _, _, operation in operations(schema):
        assert operation["summary"]
        assert operation["description"].endswith((".", "`"))


def test_every_json_answer_is_a_declared_type(schema: Schema) -> None:
    for path, method, operation in operations(schema):
        for status, response in operation["responses"].items():
            assert response["description"], (path, method, status)
            for media_type, content in response.get("content", {}).items():
                if media_type.endswith("json"):
                    assert set(content["schema"]) == {"$ref"}, (path, method, status)
                else:
                    assert content["schema"]["type"] == "string", (path, method, status)


def test_every_field_and_parameter_is_described(schema: Schema) -> None:
    for name, component in components(schema).items():
        assert component["description"], name
        for field, value in component.get("properties", {}).items():
            described = (
                value if "$ref" not in value else {**components(schema)[value["$ref"].split("/")[-1]], **value}
            )
            assert described["description"], (name, field)
    for path, method, operation in operations(schema):
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (path, method, parameter["name"])


def test_amounts_are_strings_and_times_are_rfc_3339_wherever_they_are(schema: Schema) -> None:
    amount = re.compile(r"usd_cents|usd_per_million|percent")
    moment = re.compile(r"\w+_at|as_of|since|time|effective_from|journal_from")
    for name, component in components(schema).items():
        for field, value in component.get("properties", {}).items():
            choices = value.get("anyOf", [value])
            if amount.search(field) and "$ref" not in value:
                # What is sent may be an integer as well, which loses no digits.
                others = ("null", "integer") if name.endswith(("Input", "Patch")) else ("null",)
                types = [choice for choice in choices if choice["type"] not in others]
                assert [(each["type"], each["format"]) for each in types] == [("string", "decimal")], (name, field)
            if moment.fullmatch(field):
                types = [choice for choice in choices if choice["type"] != "null"]
                assert [(each["type"], each["format"]) for each in types] == [("string", "date-time")], (
                    name,
                    field,
                )


def test_every_problem_is_described_where_it_can_occur(schema: Schema) -> None:
    seen: set[str] = set()
    for path, method, operation in operations(schema):
        statuses = set(operation["responses"])
        if path.startswith("/v1/") and path != "/v1/stripe/webhook":
            assert {"401", "403", "422", "500", "503"} <= statuses, (path, method)
            assert operation["security"] == [{"HTTPBearer": []}], (path, method)
        for status, response in operation["responses"].items():
            if int(status) < 400 or (path in ("/livez", "/readyz") and status == "503"):
                continue
            (content,) = response["content"].items()
            assert content[0] == PROBLEM_JSON
            for slug, example in content[1]["examples"].items():
                seen.add(slug)
                assert example["value"]["type"] == f"/problems/{slug}"
                assert example["value"]["status"] == int(status)
                check(schema, content[1]["schema"]["$ref"], example["value"])
    assert {problem.slug for problem in PROBLEMS.values()} <= seen


def check(schema: Schema, ref: str, value: Any) -> None:
    jsonschema.Draft202012Validator({"$ref": ref, "components": schema["components"]}).validate(value)


def fails(schema: Schema, ref: str, value: Any) -> bool:
    validator = jsonschema.Draft202012Validator({"$ref": ref, "components": schema["components"]})
    return not validator.is_valid(value)


def test_waiting_times_are_described_with_the_problems_that_have_them(schema: Schema) -> None:
    post = schema["paths"]["/v1/events"]["post"]["responses"]
    assert "Retry-After" in post["503"]["headers"]
    assert "WWW-Authenticate" in post["401"]["headers"]
    assert "Retry-After" in schema["paths"]["/v1/adjustments"]["post"]["responses"]["409"]["headers"]


def test_media_types_are_the_real_ones(schema: Schema) -> None:
    def media_types(path: str) -> set[str]:
        return set(schema["paths"][path]["get"]["responses"]["200"]["content"])

    assert media_types("/v1/invoices/{invoice_id}/statement.{format}") == {"application/pdf", "text/html"}
    assert media_types("/v1/exports/{kind}.{format}") == {"text/csv", "application/vnd.apache.parquet"}
    assert media_types("/v1/streams/{customer_id}/{stream_id}/receipt") == {"application/json", "text/plain"}
    assert media_types("/metrics") == {"text/plain"}
    text = schema["paths"]["/v1/events"]["post"]["description"]
    for word in ("cloudevents+json", "cloudevents-batch+json", "application/x-ndjson", "deflate", "zstd", "8 MiB"):
        assert word in text


def test_an_event_is_one_of_three_types(schema: Schema) -> None:
    event = components(schema)["Event"]
    assert event["discriminator"]["propertyName"] == "type"
    assert set(event["discriminator"]["mapping"]) == {"stream-start", "token-delivered", "stream-end"}
    assert [each["$ref"] for each in event["oneOf"]] == list(event["discriminator"]["mapping"].values())
    body = schema["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]
    single, batch = body["schema"]["oneOf"]
    assert single == batch["items"] == {"$ref": "#/components/schemas/Event"}
    assert "10,000" in batch["description"]
    for example in (start(), delivered(), end(), body["examples"]["event"]["value"]):
        check(schema, "#/components/schemas/Event", example)


@pytest.mark.parametrize(
    "wrong",
    [
        {**start(), "specversion": "0.3"},
        {**start(), "type": "token-gone"},
        {**start(), "subject": ""},
        {**start(), "subject": "x" * 129},
        start(input_tokens=-1),
        start(input_tokens=2**53),
        start(tags={str(number): "x" for number in range(17)}),
        {**end(), "data": {"stream_id": "s", "outcome": "abandoned"}},
        {**delivered(), "data": {"stream_id": "s", "seq": 1}},
        {key: value for key, value in start().items() if key != "time"},
    ],
)
def test_the_description_refuses_what_the_service_refuses(shared_api: Api, schema: Schema, wrong: Any) -> None:
    assert fails(schema, "#/components/schemas/Event", wrong)
    answer = shared_api.post([wrong])
    assert answer.status_code == 422
    check(schema, "#/components/schemas/EventsProblem", answer.json())
    assert answer.json()["rejected"]


def test_bodies_are_described_as_strict_as_they_are_read(schema: Schema) -> None:
    bodies = {name: body for name, body in components(schema).items() if name.endswith(("Input", "Patch"))}
    assert len(bodies) > 8
    assert all(body["additionalProperties"] is False for body in bodies.values())


def test_the_documentation_page_needs_no_network(shared_api: Api) -> None:
    page = shared_api.client.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"""(src|href)=["']https?://""", page.text)


def test_every_operation_names_the_scope_that_it_needs(schema: Schema) -> None:
    named = {(method.upper(), path): operation.get("x-scope") for path, method, operation in operations(schema)}
    assert named == API
