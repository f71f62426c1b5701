"""The OpenAPI description of `POST /v1/holds`, which is plain ASGI."""

from typing import Any

import msgspec
from pydantic import TypeAdapter

from metering.access.scopes import Scope
from metering.api.auth import ForbiddenError, UnauthorizedError
from metering.api.holds import HeldAnswer, HoldBody
from metering.api.key_limits import TooManyRequestsError
from metering.api.problems import InvalidParameterError, PayloadTooLargeError, Problem
from metering.api.routes import problem_responses
from metering.budgets.admission import BudgetExhaustedError
from metering.budgets.admit_holds import HoldDiffersError, StreamFinalError
from metering.budgets.hold_price import PriceUnknownError
from metering.budgets.hold_writer import HoldNotCommittedError, HoldQueueFullError
from metering.db.engine import DatabaseUnavailableError, UnsafeDatabaseError
from metering.streams.ingest.body import UnsupportedBodyError

Schema = dict[str, Any]

_REF = "#/components/schemas/"
_NAMES = {"HoldBody": "HoldRequest", "HeldAnswer": "Hold", "HoldBudget": "HoldBudget"}
_POST_HOLDS = """
Set money aside for one stream, before it goes upstream. The hold is priced by the rates that will bill the stream,
and counts against every budget that covers it. Booking the stream's charge closes the hold: there is nothing to
commit. The same body gets the same answer, so that it may be sent again.

`worst_case` holds the input and `max_output_tokens`. `sliding` holds the input and a slice of output; each
`token-delivered` beyond half of the last slice makes the hold longer by one. When the budget has no room for it,
the answer to the events names the stream in `stop`: end it, and post its stream-end as `cancelled` with
`error_type: "budget"`.

A hold whose stream never begins expires after `lease_seconds`. Each event of the stream renews it.
""".strip()
_DESCRIPTIONS = {
    "customer_id": "The customer who pays.",
    "stream_id": "The stream, as its events will name it.",
    "provider": "The upstream provider.",
    "model": "The requested model.",
    "input_tokens": "The input tokens of the request; null: known only afterwards, so the price is unknown.",
    "service_tier": "The requested service tier.",
    "api_key_id": "The customer's API key that is used; an id, never the key itself.",
    "tags": "Up to 16 tags of the customer's own, as the stream-start will have them.",
    "max_output_tokens": "The most output tokens that the stream can deliver.",
    "mode": "How much to hold. Default: `worst_case`.",
    "slice_output_tokens": "How many output tokens a sliding hold covers ahead. Default: 2,000.",
    "lease_seconds": "After this long without an event, the hold expires. Default: 120.",
    "hold_id": "The hold.",
    "held_usd_cents": "What is held, in exact cents.",
    "expires_at": "When it expires, unless an event of the stream arrives.",
    "budgets": "The budgets that it counts against.",
    "budget_id": "The budget.",
    "headroom_usd_cents": "What may still be held after this hold, in exact cents.",
    "resets_at": "When the budget's next window begins; null: never.",
}
_EXAMPLE = {
    "customer_id": "acme",
    "stream_id": "01J9",
    "provider": "anthropic",
    "model": "claude-opus-4.7",
    "input_tokens": 812,
    "max_output_tokens": 4096,
}
_CENTS = {"type": "string", "format": "decimal"}
_FIGURES: dict[str, Schema] = {
    "budget_id": {"type": "string", "description": "The budget that refuses the hold."},
    "limit_usd_cents": {**_CENTS, "description": "Its limit, in exact cents."},
    "spent_usd_cents": {**_CENTS, "description": "What was booked in its window."},
    "held_usd_cents": {**_CENTS, "description": "What open streams hold."},
    "needed_usd_cents": {**_CENTS, "description": "What this stream would hold."},
    "max_output_tokens_that_fit": {
        "type": ["integer", "null"],
        "description": "With this `max_output_tokens` the hold would fit; 0: not even the input does.",
    },
    "resets_at": {
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
        "description": "When its next window begins; null: never.",
    },
}
_REFUSED = {
    "budget_id": "acme-monthly",
    "limit_usd_cents": "50000",
    "spent_usd_cents": "49990.25",
    "held_usd_cents": "8",
    "needed_usd_cents": "3.125",
    "max_output_tokens_that_fit": 512,
    "resets_at": "2026-12-01T00:00:00Z",
}


def hold_paths() -> dict[str, Schema]:
    """The operation, by its path."""
    problems = problem_responses(
        UnauthorizedError,
        BudgetExhaustedError,
        ForbiddenError,
        HoldDiffersError,
        StreamFinalError,
        PayloadTooLargeError,
        UnsupportedBodyError,
        InvalidParameterError,
        PriceUnknownError,
        TooManyRequestsError,
        HoldQueueFullError,
        HoldNotCommittedError,
        DatabaseUnavailableError,
        UnsafeDatabaseError,
    )
    refused: dict[str, Any] = problems[402]
    content = refused["content"]["application/problem+json"]
    content["schema"] = {"$ref": f"{_REF}BudgetProblem"}
    content["examples"]["budget-exhausted"]["value"] |= _REFUSED
    held = {
        "description": "The hold is durable: the stream may begin.",
        "content": {"application/json": {"schema": {"$ref": f"{_REF}Hold"}}},
    }
    post: Schema = {
        "tags": ["budgets"],
        "operationId": "createHold",
        "summary": "Hold money for a stream",
        "description": _POST_HOLDS,
        "x-scope": Scope.HOLDS_WRITE.value,
        "security": [{"HTTPBearer": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"{_REF}HoldRequest"},
                    "examples": {"hold": {"value": _EXAMPLE}},
                }
            },
        },
        "responses": {"201": held, **{str(status): response for status, response in problems.items()}},
    }
    return {"/v1/holds": {"post": post}}


def hold_schemas() -> dict[str, Schema]:
    """The components of the operation."""
    _, derived = msgspec.json.schema_components((HoldBody, HeldAnswer), ref_template=f"{_REF}{{name}}")
    schemas: dict[str, Schema] = {}
    for name, schema in derived.items():
        properties = {
            field: {**value, **_formats(field, value), "description": _DESCRIPTIONS[field]}
            for field, value in schema["properties"].items()
        }
        schemas[_NAMES[name]] = {**schema, "title": _NAMES[name], "properties": properties}
    schemas["HoldRequest"]["additionalProperties"] = False
    problem = TypeAdapter(Problem).json_schema(ref_template=f"{_REF}{{model}}")
    schemas["BudgetProblem"] = {
        **problem,
        "description": "The hold does not fit a budget.",
        "properties": {**problem["properties"], **_FIGURES},
        "required": [*problem["required"], *_FIGURES],
    }
    return schemas


def _formats(field: str, value: Schema) -> Schema:
    """The format of amounts and times, which msgspec sees as text."""
    kind = "decimal" if field.endswith("_cents") else "date-time" if field.endswith("_at") else None
    if kind is None:
        return {}
    if "anyOf" in value:
        return {
            "anyOf": [{**each, "format": kind} if each["type"] == "string" else each for each in value["anyOf"]]
        }
    return {"format": kind}
