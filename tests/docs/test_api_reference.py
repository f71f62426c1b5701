"""docs/api.md and docs/api/: they are what the API says of itself, and each problem has the same page there."""

import re
from typing import Any

import jsonschema
import pytest

from metering.api.problem_pages import PROBLEM_HELP, problem_types
from tests.docs.api_reference import Text, description, pages
from tests.docs.pages import DOCS
from tests.docs.schema_words import example
from tests.running_api import Api

SCHEMA = description()
WRITTEN = pages(SCHEMA)


def test_it_is_written_from_the_description_that_the_service_serves(shared_api: Api) -> None:
    assert shared_api.client.get("/openapi.json").json() == SCHEMA


def test_the_files_are_those_that_make_reference_writes() -> None:
    files = {f"api/{path.name}" for path in (DOCS / "api").glob("*.md")} | {"api.md"}
    assert files == set(WRITTEN)
    outdated = [name for name in sorted(files) if (DOCS / name).read_text() != WRITTEN[name]]
    assert outdated == [], "run `make reference`"


def test_every_operation_stands_in_it_with_its_scope_a_request_and_its_problems() -> None:
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            (subject,) = operation["tags"]
            page = WRITTEN[f"api/{subject.replace(' ', '-')}.md"]
            section = page.split(f"\n## {operation['summary']}\n")[1].split("\n## ")[0]
            scope = f"scope `{operation['x-scope']}`" if "x-scope" in operation else "no key"
            assert f"`{method.upper()} {path}` · {scope}" in section
            assert "```sh\ncurl " in section
            assert "\nProblems: " in section
            assert re.search(r"^Answer 20\d: ", section, flags=re.MULTILINE)


def test_the_example_of_every_answer_is_one_that_the_description_allows() -> None:
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items():
                schema = response.get("content", {}).get("application/json", {}).get("schema")
                if int(status) < 400 and schema:
                    check(schema, example(schema, SCHEMA["components"]["schemas"]), f"{method} {path}")


def check(schema: dict[str, Any], value: Any, where: str) -> None:
    whole = {**schema, "components": SCHEMA["components"]}
    faults = [error.message for error in jsonschema.Draft202012Validator(whole).iter_errors(value)]
    assert faults == [], where


def test_the_example_of_every_field_is_one_that_the_field_allows() -> None:
    for name, schema in SCHEMA["components"]["schemas"].items():
        for field, value in schema.get("properties", {}).items():
            for shown in value.get("examples", ()):
                check(value, shown, f"{name}.{field}")


def test_every_kind_of_problem_has_its_help() -> None:
    assert sorted(PROBLEM_HELP) == [each.slug for each in problem_types()]
    for slug, says in PROBLEM_HELP.items():
        assert says.when.endswith("."), slug
        assert says.do.endswith("."), slug


@pytest.mark.parametrize("problem", problem_types(), ids=lambda each: each.slug)
def test_the_type_of_a_problem_is_a_page_with_the_texts_of_the_reference(shared_api: Api, problem: Any) -> None:
    served = shared_api.client.get(f"/problems/{problem.slug}", headers={"authorization": ""})
    assert (served.status_code, served.headers["content-type"]) == (200, "text/html; charset=utf-8")
    words = " ".join(Text(served.text).text.split())
    (row,) = [line for line in WRITTEN["api.md"].splitlines() if f'<a id="{problem.slug}"></a>' in line]
    for text in (PROBLEM_HELP[problem.slug].when, PROBLEM_HELP[problem.slug].do):
        assert text.replace("|", "\\|") in row
        assert text.replace("`", "") in words
    assert f"HTTP status {problem.status}" in words


def test_the_list_of_problems_leads_to_each(shared_api: Api) -> None:
    listed = shared_api.client.get("/problems").text
    assert re.findall(r'href="/problems/([a-z-]+)"', listed) == [each.slug for each in problem_types()]
    assert shared_api.client.get("/problems/no-such-thing").status_code == 404
