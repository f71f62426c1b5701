"""The OpenAPI description: its introduction, what FastAPI derives from the routes, and `POST /v1/events`."""

import re
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from metering.access.scopes import Scope
from metering.api.holds_description import hold_paths, hold_schemas
from metering.api.ingest_problems import INGEST_PROBLEMS
from metering.api.inlets.description import inlet_paths, inlet_schemas
from metering.api.inlets.otlp_description import otlp_paths, otlp_schemas
from metering.api.problems import NoEventAcceptedError, Problem
from metering.api.routes import problem_responses
from metering.api.schema_examples import add_answers, add_bodies, add_examples
from metering.api.schemas import Schema, derived_schemas
from metering.events.wire.decode import MAX_EVENTS, NDJSON, TooManyEventsError, TooManyValuesError
from metering.events.wire.split import InvalidJsonError

_INTRODUCTION = """
Usage metering and billing for LLM streaming gateways. Gateways post events; the service joins them to streams,
prices each stream exactly once, and answers what it cost.

**Authentication.** Send `Authorization: Bearer mk_<id>_<secret>`. A key has one role: `ingest` posts events,
`read` reads, `admin` does everything, and `custom` lists scopes such as `totals:read`. All but admin may be bound
to one customer. Each operation names the scope that it needs as `x-scope`. Without a valid key the answer is 401;
with a key that is not allowed it is 403.

**Money.** Amounts are exact decimals in JSON strings, such as `"0.0026175"`: US cents in fields that end in
`usd_cents`, US dollars in `usd_per_million`. Parse them as decimals, not as floats. Whole cents on invoices
(`billed_cents`) are integers.

**Time.** Times are RFC 3339. Answers have UTC (`2026-11-23T15:00:00.123Z`); requests may have any offset, and must
have one. Ranges are half-open: `from` is inclusive, `to` is exclusive. Months are written `2026-11`.

**Pages.** Lists answer `{"data": [...], "next_cursor": ...}`. Repeat the request with `cursor` set to
`next_cursor` until it is null. `limit` is 100 unless given, and at most 1,000.

**Errors.** Every error is an `application/problem+json` document (RFC 9457), except the 503 of `/livez` and
`/readyz`. Its `type`, such as `/problems/not-found`, is stable, and the path of a page that says what to do;
`detail` says what is wrong with this request. An unknown path gets 404, and a method that a path does not have
gets 405 with `Allow`. Unknown query parameters, and unknown fields of a body other than an event, get 422 with
their name. An answer with `Retry-After` may be requested again after that many seconds.

**Repeating requests.** Events may be sent again at any time, in any order and in any batches: they are counted
once. `PUT /v1/customers/{customer_id}` can be repeated. `POST /v1/adjustments` books once for each
`Idempotency-Key`. A PUT of a price adds a dated row; one row at most takes effect at the same time.

Fields may be added to answers at any time; none is renamed or removed in version 1.
""".strip()

_TAGS = {
    "events": "Post usage events, and read them back as they were sent.",
    "streams": "One stream: its state, its usage, its cost, and the receipt of that cost.",
    "charges": "The booked charges of streams that are final.",
    "totals": "Sums of usage and cost by group and time.",
    "customers": "Who pays.",
    "prices": "Rate cards, cancel policies and markups. A change is a new dated row.",
    "budgets": "Limits on what may be spent, and money held for open streams.",
    "credits": "Prepaid and promotional grants, balances, and deferred revenue.",
    "corrections": "Manual adjustments, and the backlog of streams that need attention.",
    "invoices": "Monthly invoices and their usage statements.",
    "exports": "A month as a CSV or Parquet file.",
    "alerts": "Thresholds on spend and other figures, and when they were reached.",
    "webhooks": "Where messages about alerts, budgets and holds are sent, and the log of deliveries.",
    "keys": "Who may call: keys, their scopes, and what they are bound to.",
    "audit log": "What admins did, with the values before and after.",
    "stripe": "How Stripe differs from the invoices here, and what Stripe posts.",
    "health": "Liveness, readiness and metrics. They need no key.",
}

_REF = "#/components/schemas/"
_BATCH = {
    "type": "array",
    "items": {"$ref": f"{_REF}Event"},
    "minItems": 1,
    # No `maxItems`: more are answered with 413, as a body of more than 8 MiB is. The description says so.
    "description": f"A batch of at most {MAX_EVENTS:,} events, of one or many streams and customers.",
}
_POST_EVENTS = f"""
CloudEvents 1.0 in JSON: one event, or an array of events. The answer comes once the accepted events are committed
with fsync. One bad event does not affect the others. Events may be sent again at any time, in any order and in any
batches.

| `Content-Type` | body |
|---|---|
| `application/json` | one event, or an array of events |
| `application/cloudevents+json` | one event, or an array of events |
| `application/cloudevents-batch+json` | one event, or an array of events |
| `{NDJSON}` | one event a line |

The only charset is UTF-8. `Content-Encoding` may be `gzip`, `deflate` or `zstd`. A body has at most 8 MiB, as
sent and decompressed, and {MAX_EVENTS:,} events.
""".strip()
_SINGLE = {"$ref": f"{_REF}Event"}
_EXAMPLE = {
    "specversion": "1.0",
    "type": "stream-start",
    "source": "/gateways/eu-1",
    "id": "01J9:start",
    "subject": "acme",
    "time": "2026-11-23T15:00:00.123Z",
    "data": {"stream_id": "01J9", "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812},
}


def describe_app(app: FastAPI) -> Schema:
    """The OpenAPI 3.1 document of the application."""
    schema: Schema = get_openapi(
        title=app.title,
        version=app.version,
        description=_INTRODUCTION,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        routes=app.routes,
    )
    components = schema["components"]
    components["schemas"] = derived_schemas() | components["schemas"]
    components["schemas"] |= {"Problem": _problem(), "EventsProblem": _events_problem()}
    components["schemas"] |= inlet_schemas() | otlp_schemas() | hold_schemas()
    components["schemas"]["StreamEvent"]["properties"]["event"] = {
        "$ref": f"{_REF}Event",
        "description": "The event exactly as it was sent, unknown fields included.",
    }
    add_examples(components["schemas"])
    ours = {"/v1/events": {"post": _post_events()}, **inlet_paths(), **otlp_paths()}
    schema["paths"] = {**ours, **schema["paths"]}
    for path, operations in hold_paths().items():
        schema["paths"][path] = {**operations, **schema["paths"].get(path, {})}
    add_bodies(schema["paths"])
    add_answers(schema["paths"], components["schemas"])
    for part in (schema["paths"], components):
        _drop_titles(part)
    return _with_names_of_pages(schema)


def _problem() -> Schema:
    return TypeAdapter(Problem).json_schema(ref_template=f"{_REF}{{model}}")


def _events_problem() -> Schema:
    problem = _problem()
    rejected = {
        "type": "array",
        "items": {"$ref": f"{_REF}RejectedEvent"},
        "description": "Why each event or record was rejected; absent if the body could not be read as JSON.",
    }
    return {
        **problem,
        "description": "No event or record was accepted.",
        "properties": {**problem["properties"], "rejected": rejected},
    }


def _post_events() -> Schema:
    accepted = {
        "description": "The accepted events are durable. Each rejected event is listed with the reason.",
        "content": {"application/json": {"schema": {"$ref": f"{_REF}AcceptedEvents"}}},
    }
    problems = problem_responses(
        *INGEST_PROBLEMS, TooManyEventsError, TooManyValuesError, NoEventAcceptedError, InvalidJsonError
    )
    return {
        "tags": ["events"],
        "operationId": "postEvents",
        "summary": "Post usage events",
        "description": _POST_EVENTS,
        "x-scope": Scope.EVENTS_WRITE.value,
        "security": [{"HTTPBearer": []}],
        "requestBody": {
            "required": True,
            "description": "One event, or a batch.",
            # One media type, although more are accepted: client generators choose between several by the type of
            # the body, which is the same here, and then post with the wrong one or not at all.
            "content": {
                "application/json": {
                    "schema": {"oneOf": [_SINGLE, _BATCH]},
                    "examples": {"event": {"value": _EXAMPLE}, "batch": {"value": [_EXAMPLE]}},
                }
            },
        },
        "responses": {"200": accepted, **{str(status): response for status, response in problems.items()}},
    }


def _drop_titles(part: Any) -> None:
    """FastAPI titles every field with its own name; the texts of examples stay."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        for name, inner in part.items():
            if name not in ("examples", "example"):
                _drop_titles(inner)
    elif isinstance(part, list):
        for inner in part:
            _drop_titles(inner)


def _with_names_of_pages(schema: Schema) -> Schema:
    """pydantic names a page of charges `Page_Charge_`; here it is `ChargePage`."""
    text = msgspec.json.encode(schema).decode()
    named: Schema = msgspec.json.decode(re.sub(r'(?<=[/"])Page_(\w+)_(?=")', r"\1Page", text))
    return named
