"""docs/api.md and docs/api/: the reference of the API, written from its OpenAPI description and its problems.

`make reference` writes the files; a test compares them with what this writes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from fastapi import FastAPI

from metering.api.app import ROUTERS
from metering.api.description import describe_app
from metering.api.problem_pages import PROBLEM_HELP, problem_types
from metering.api.problems import INTERNAL, PROBLEMS
from metering.api.routes import ANY_ROUTE
from tests.docs.pages import DOCS
from tests.docs.schema_words import Schemas, example, fields, name_of, types_within

_HEAD = "<!-- Written by `make reference` from the API's own description. Do not edit. -->\n"
_METHODS = ("get", "post", "put", "patch", "delete")
# What every route under /v1 has, besides those that take events.
COMMON = frozenset(PROBLEMS[error].slug for error in ANY_ROUTE) | {INTERNAL.slug}
Operation = Mapping[str, Any]
Places = Mapping[str, str]


def description() -> dict[str, Any]:
    """The OpenAPI description, without a service behind it."""
    app = FastAPI(title="Metering", version="1")
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    return describe_app(app)


def pages(schema: Mapping[str, Any]) -> dict[str, str]:
    """Each file of the reference by its name under docs/."""
    schemas: Schemas = schema["components"]["schemas"]
    subjects = {tag["name"]: list(_operations(schema, tag["name"])) for tag in schema["tags"]}
    used = {subject: _types(found, schemas) for subject, found in subjects.items()}
    shared = sorted({name for name in schemas if sum(name in names for names in used.values()) > 1})
    written = {"api.md": _index(schema, subjects), "api/types.md": _shared(shared, schemas)}
    for tag in schema["tags"]:
        subject = tag["name"]
        own = [name for name in sorted(used[subject]) if name not in shared]
        places = {
            **{name: f"types.md#{name.lower()}" for name in shared},
            **{name: f"#{name.lower()}" for name in own},
        }
        parts = [
            f"{_HEAD}\n# {_title(subject)}\n\n{tag['description']} [All subjects](../api.md)",
            *("\n\n".join(_operation(*each, schemas, places)) for each in subjects[subject]),
        ]
        if own:
            parts.append("## Types")
            parts += [_type(name, schemas, places) for name in own]
        written[f"api/{_file(subject)}"] = "\n\n".join(parts) + "\n"
    return written


def _operations(schema: Mapping[str, Any], subject: str) -> Iterator[tuple[str, str, Operation]]:
    for path, methods in schema["paths"].items():
        for method in _METHODS:
            if method in methods and subject in methods[method]["tags"]:
                yield method, path, methods[method]


def _types(found: Iterable[tuple[str, str, Operation]], schemas: Schemas) -> set[str]:
    names: set[str] = set()
    for _, _, operation in found:
        answers = [each for status, each in operation["responses"].items() if int(status) < 400]
        for part in (operation.get("parameters", ()), operation.get("requestBody", {}), answers):
            types_within(part, schemas, names)
    return {name for name in names if "enum" not in schemas[name]}


def _title(subject: str) -> str:
    return subject[0].upper() + subject[1:]


def _file(subject: str) -> str:
    return f"{subject.replace(' ', '-')}.md"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _index(schema: Mapping[str, Any], subjects: Mapping[str, list[tuple[str, str, Operation]]]) -> str:
    introduction = re.sub(r"^\*\*(.+?)\.\*\* ", r"## \1\n\n", schema["info"]["description"], flags=re.MULTILINE)
    lines = [
        f"{_HEAD}\n# API reference\n",
        introduction,
        "\n## Operations\n",
        _row("operation", "request", "scope"),
    ]
    lines.append("|---|---|---|")
    for subject, found in subjects.items():
        lines.append(_row(f"**[{_title(subject)}](api/{_file(subject)})**", "", ""))
        for method, path, operation in found:
            link = f"[{operation['summary']}](api/{_file(subject)}#{_anchor(operation['summary'])})"
            scope = f"`{operation['x-scope']}`" if "x-scope" in operation else ""
            lines.append(_row(link, f"`{method.upper()} {path}`", scope))
    common = ", ".join(f"[{slug}](#{slug})" for slug in sorted(COMMON))
    lines.append("\n## Problems\n")
    lines.append("The API serves each of these texts at the path of its `type`, such as `/problems/not-found`.\n")
    lines.append(f"Every operation that reads or changes something can answer with {common}.\n")
    lines += [_row("`type`", "status", "when it occurs", "what to do"), "|---|---|---|---|"]
    for each in problem_types():
        says = PROBLEM_HELP[each.slug]
        link = f'<a id="{each.slug}"></a>`/problems/{each.slug}`'
        lines.append(_row(link, f"{each.status} {each.title}", says.when, says.do))
    return "\n".join(lines) + "\n"


def _shared(names: Iterable[str], schemas: Schemas) -> str:
    places = {name: f"#{name.lower()}" for name in names}
    head = f"{_HEAD}\n# Types that several subjects use\n\n[All subjects](../api.md)"
    return "\n\n".join([head, *(_type(name, schemas, places, level=2) for name in places)]) + "\n"


def _type(name: str, schemas: Schemas, places: Places, *, level: int = 3) -> str:
    schema = schemas[name]
    text = f"{'#' * level} {name}\n\n{schema['description']}"
    if "oneOf" in schema:
        return f"{text}\n\nOne of {', '.join(_linked(name_of(each), places) for each in schema['oneOf'])}."
    if not schema.get("properties"):
        return text
    rows = [_row(f"`{field}`", words, says) for field, words, says in fields(schema, schemas, places)]
    return "\n".join([text, "", _row("field", "type", "meaning"), "|---|---|---|", *rows])


def _linked(name: str, places: Places) -> str:
    return f"[{name}]({places[name]})" if name in places else f"`{name}`"


def _operation(method: str, path: str, operation: Operation, schemas: Schemas, places: Places) -> Iterator[str]:
    yield f"## {operation['summary']}"
    scope = f" · scope `{operation['x-scope']}`" if "x-scope" in operation else " · no key"
    yield f"`{method.upper()} {path}`{scope}"
    yield operation["description"]
    if parameters := operation.get("parameters"):
        rows = [
            _row(f"`{each['name']}`", f"{each['in']}{', required' if each['required'] else ''}", words, says)
            for each in parameters
            for _, words, says in fields(_as_object(each), schemas, places)
        ]
        yield "\n".join([_row("parameter", "in", "type", "meaning"), "|---|---|---|---|", *rows])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and (name := _body_type(body)):
        yield f"Body: {_linked(name, places)}"
    yield f"```sh\n{_request(method, path, operation, body, schemas)}\n```"
    yield from _answers(operation, schemas, places)
    slugs = list(dict.fromkeys(_problems(operation)))
    common = set(slugs) >= COMMON
    own = [f"[{slug}](../api.md#{slug})" for slug in slugs if not (common and slug in COMMON)]
    yield f"Problems: {', '.join([*own, *(['[those of every operation](../api.md#problems)'] if common else [])])}"


def _as_object(parameter: Mapping[str, Any]) -> dict[str, Any]:
    choices = [each for each in parameter["schema"].get("anyOf", ()) if each != {"type": "null"}]
    schema = {**parameter["schema"], **({"anyOf": choices} if choices else {})}
    return {"properties": {parameter["name"]: {**schema, "description": parameter["description"]}}}


def _body_type(body: Mapping[str, Any]) -> str | None:
    choices = body["schema"].get("anyOf", body["schema"].get("oneOf", [body["schema"]]))
    return next((name_of(each) for each in choices if "$ref" in each), None)


def _request(
    method: str, path: str, operation: Operation, body: Mapping[str, Any] | None, schemas: Schemas
) -> str:
    parameters = operation.get("parameters", ())
    found = {each["name"]: example(each["schema"], schemas) for each in parameters}
    values = {name: str(value) for name, value in found.items() if value is not None}
    url = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)
    query = "&".join(f"{each['name']}={values[each['name']]}" for each in parameters if _is_shown(each, values))
    address = f"localhost:8000{url}{'?' * bool(query)}{query}"
    plain = method == "get" or (method == "post" and body is not None)
    words = ["curl"] if plain else ["curl", f"-X {method.upper()}"]
    if "security" in operation:
        words.append('-H "Authorization: Bearer $KEY"')
    words += [f'-H "{each["name"]}: {values[each["name"]]}"' for each in parameters if _is_header(each)]
    words.append(f'"{address}"' if query else address)
    if body is not None:
        sent = body.get("example") or next(iter(body.get("examples", {}).values()), {}).get("value", {})
        words.append("--json '" + json.dumps(sent, indent=2, ensure_ascii=False).replace("'", "'\\''") + "'")
    return " ".join(words)


def _is_shown(parameter: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    shown = parameter["required"] or parameter["name"] in ("period", "customer_id")
    return parameter["in"] == "query" and shown and parameter["name"] in values


def _is_header(parameter: Mapping[str, Any]) -> bool:
    return bool(parameter["in"] == "header" and parameter["required"])


def _answers(operation: Operation, schemas: Schemas, places: Places) -> Iterator[str]:
    for status, response in operation["responses"].items():
        if int(status) >= 400:
            continue
        contents = response.get("content", {})
        schema = contents.get("application/json", {}).get("schema")
        kinds = (
            ", ".join(f"`{each}`" for each in contents)
            if contents and set(contents) != {"application/json"}
            else ""
        )
        linked = _linked(name_of(schema), places) if schema else ""
        about = " · ".join(part for part in (linked, kinds) if part)
        yield f"Answer {status}: {response['description']}{f' ({about})' if about else ''}"
        if schema:
            yield f"```json\n{json.dumps(example(schema, schemas), indent=2, ensure_ascii=False)}\n```"


def _problems(operation: Operation) -> Iterator[str]:
    for status, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            if int(status) >= 400:
                yield from content.get("examples", {})


class Text(HTMLParser):
    """The words of a page of HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.feed(page)

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def write() -> None:
    """Write the files, and remove those of subjects that are gone."""
    written = pages(description())
    for path in (DOCS / "api").glob("*.md"):
        path.unlink()
    (DOCS / "api").mkdir(exist_ok=True)
    for name, text in written.items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    write()
