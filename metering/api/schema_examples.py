"""Examples of fields in the OpenAPI description: one for each field that does not declare its own.

The examples of all fields together make the examples of the API reference, and those that `/docs` shows.
"""

from collections.abc import Mapping
from typing import Any

from metering.api.schemas import Schema

# By field, or by type and field where a field has another form there.
_EXAMPLES: Mapping[str, Any] = {
    "balance_usd_cents": "8123.4985",
    "budget_id": "acme-monthly",
    "budget_ids": ["acme-monthly"],
    "headroom_usd_cents": "37654.5",
    "held_usd_cents": "10.646",
    "hold_id": "hold_5d4c0a9b",
    "limit_usd_cents": "50000",
    "limited_usd_cents": "0",
    "max_output_tokens_that_fit": 512,
    "models": ["claude-opus-4.7"],
    "needed_usd_cents": "10.646",
    "providers": ["anthropic"],
    "says": "Bills the start and the end that win: $0.07",
    "spent_usd_cents": "12334.854",
    "upcoming_usd_cents": "0",
    "ExaminedStream.version": "9f86d081884c7d65",
    "ResolutionInput.version": "9f86d081884c7d65",
    "BacklogFact.data": {"provider": "anthropic", "model": "claude-opus-4.7"},
    "above_input_tokens": 200000,
    "accepted": 2,
    "accrued_usd_cents": "0.125",
    "adjustment_id": None,
    "after": {"percent": "20"},
    "api_key_id": "key_7",
    "audio_seconds": "12.5",
    "before": {"percent": "15"},
    "billed_cents": 0,
    "body": '{"type":"alert.reached","timestamp":"2026-11-23T15:00:00.123Z","data":{"alert_id":"alr_5d4c0a9b"}}',
    "cancel_policy_version": 0,
    "change_usd_cents": "-0.125",
    "clock_ahead_seconds": None,
    "code": "missing-field",
    "concurrent_requests": 16,
    "cost_usd_cents": "0.4985",
    "customer_id": "acme",
    "AlertOccurrence.data": {
        "alert_id": "alr_5d4c0a9b",
        "threshold": "80",
        "value": "81.5",
        "unit": "percent",
        "usd_cents": "8150",
        "budget_usd_cents": "10000",
    },
    "datacontenttype": "application/json",
    "description": "claude-opus-4.7 (anthropic): 1 completion, 812 input and 37 output tokens",
    "detail": "data.provider: required",
    "Drift.detail": "its lines sum to 1488 cents, not 1458",
    "NotAlive.detail": "the ingest writer has stopped",
    "NotReady.detail": "the database cannot be used now: try again",
    "disabled_reason": None,
    "end": "06:00:00",
    "entry_count": 1,
    "end_fingerprint": None,
    "error_type": None,
    "errorMessage": "span 0: gen_ai.request.model: required",
    "events_per_second": 20000,
    "field": "data.usage.prompt_tokns",
    "finding": 1,
    "finish_reasons": ["stop"],
    "fix": "metering rates set anthropic claude-opus-4.7 input=5 output=25 --effective-from 2026-11-01",
    "force_reason": None,
    "format": "stream-metering receipt 1",
    "hint": "input_tokens",
    "id": "01J9:end",
    "RejectedEvent.id": "01J8:start",
    "ReceiptEntry.id": "ch_5d4c0a9b",
    "ReceiptDraw.grant_id": "gr_5d4c0a9b",
    "ReceiptDraw.entry_id": "ch_5d4c0a9b",
    "ReceiptDraw.usd_cents": "-0.4985",
    "left_usd_cents": "9999.5015",
    "index": 2,
    "input_tokens": 812,
    "invoice": "2026-11-000001",
    "invoice_id": "inv_5d4c0a9b",
    "last_problem": None,
    "markup_percent": "0",
    "max_output_tokens": 1024,
    "message_id": "msg_5d4c0a9b",
    "minimum_cents": 50,
    "model": "claude-opus-4.7",
    "model_rule": "anthropic/claude-opus-4.7 starts_with claude-opus-4.7",
    "month": "2026-11",
    "names": {"starts_with": "claude-opus-4.7"},
    "next_cursor": None,
    "note": None,
    "operation": "chat",
    "output_tokens": 37,
    "percent": "20",
    "period": "2026-11",
    "position": 0,
    "previous_invoice_id": None,
    "problem": None,
    "provenance": "set by key k1",
    "provider": "anthropic",
    "quantity": 812,
    "rate_card_id": "rc_12d8f52e072f425ead5e",
    "rated_model": "claude-opus-4-7",
    "reason": "Outage on 2026-11-20",
    "rejectedLogRecords": "1",
    "rejectedSpans": "1",
    "repair": "30 cents credited",
    "request_hash": "f718222e79a7512b3f953556d169ec0b",
    "requests_per_second": 100,
    "resolved_by": "key k1",
    "resourceLogs": [],
    "resourceSpans": [],
    "response_id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "response_model": "claude-opus-4-7",
    "response_provider": None,
    "retry_of": None,
    "revision": 1,
    "row_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "seal": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "seq": 37,
    "service_tier": None,
    "source": "/gateways/eu-1",
    "Key.source": None,
    "KeyWithSecret.source": None,
    "start": "22:00:00",
    "start_fingerprint": None,
    "state": "finalized",
    "state_reason": None,
    "stream_count": 1,
    "stream_id": "01J9",
    "stripe_invoice_id": "in_1SXq2b",
    "stripe_number": "054B1878-0001",
    "stripe_url": "https://invoice.stripe.com/i/acct_1/test_5d4c",
    "stop": [],
    "subject": "acme",
    "tags": {"team": "search"},
    "trailing_days": 7,
    "upstream_cost_usd": "0.00125",
    "upstream_usd_cents": "0.125",
    "usage_faults": [],
    "usd_cents": "0.4985",
    "usd_per_hour": None,
    "usd_per_million": "5",
    "version": 1,
}
# Whole bodies, which the service takes as they stand: not every field goes with every other.
_BODIES: Mapping[str, Any] = {
    "AdjustmentInput": {
        "customer_id": "acme",
        "kind": "credit",
        "usd_cents": "-2500",
        "reason": "Outage on 2026-11-20",
    },
    "AlertInput": {
        "name": "Budget",
        "kind": "spend",
        "scope": "customer",
        "customer_id": "acme",
        "thresholds": ["80", "100"],
        "budget_usd_cents": "500000",
    },
    "AlertPatch": {"budget_usd_cents": "750000"},
    "BudgetInput": {"scope": {"customer_id": "acme"}, "window": "month", "limit_usd_cents": "50000"},
    "CancelPolicyInput": {"policy": "drain", "effective_from": "2026-12-01T00:00:00Z"},
    "CustomerInput": {"name": "Acme GmbH", "time_zone": "Europe/Berlin"},
    "EndInput": {"reason": "Ordered twice"},
    "EndpointInput": {
        "url": "https://hooks.example.com/m",
        "description": "finance",
        "types": ["alert.spend"],
    },
    "EndpointPatch": {"enabled": True},
    "GrantInput": {
        "customer_id": "acme",
        "amount_usd_cents": "12000",
        "paid_usd_cents": "10000",
        "funding": "external",
        "reason": "Order 4711",
    },
    "KeyInput": {
        "name": "Acme portal",
        "role": "read",
        "customer_id": "acme",
        "expires_at": "2099-01-01T00:00:00Z",
    },
    "KeyLimitsInput": {"events_per_second": 20000, "concurrent_requests": 16},
    "KeyRotationInput": {"overlap_hours": 24},
    "MarkupInput": {"percent": "20", "effective_from": "2026-12-01T00:00:00Z"},
    "RateCardInput": {
        "rates": [
            {"kind": "input", "usd_per_million": "5"},
            {"kind": "output", "usd_per_million": "25"},
        ],
        "effective_from": "2026-12-01T00:00:00Z",
    },
    "RefundInput": {"usd_cents": "5000", "reason": "Order 4711 was cancelled"},
    "ResolutionInput": {"action": "bill_as_is", "reason": "Both ends agree on the tokens"},
    "RotationInput": {"overlap_hours": 24},
    "TopUpInput": {"when_below_usd_cents": "1000", "buy_usd_cents": "10000", "at_most_a_day": 2},
    "UpstreamPriceInput": {"accepted": True, "effective_from": "2026-12-01T00:00:00Z"},
}
_JSON = "application/json"
# In place of what the parts would make together.
_WHOLE: Mapping[str, Any] = {
    "Charge.lines": [
        {"kind": "input", "quantity": 812, "usd_per_million": "5", "usd_cents": "0.406"},
        {"kind": "output", "quantity": 37, "usd_per_million": "25", "usd_cents": "0.0925"},
    ],
}
# Of counters, most of which few streams have.
_COUNT = 12


def add_examples(schemas: Mapping[str, Schema]) -> None:
    """Give each field that says nothing about its form an example."""
    for name, schema in schemas.items():
        for field, value in schema.get("properties", {}).items():
            if f"{name}.{field}" in _WHOLE:
                value["examples"] = [_WHOLE[f"{name}.{field}"]]
            elif not is_exemplified(value):
                rare = None if is_nullable(value) else _COUNT
                value["examples"] = [_EXAMPLES.get(f"{name}.{field}", _EXAMPLES.get(field, rare))]


def add_bodies(paths: Mapping[str, Any]) -> None:
    """Give each request whose body is a declared type an example of the whole body."""
    for methods in paths.values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {}).get(_JSON, {})
            schema = content.get("schema", {})
            for choice in schema.get("anyOf", [schema]):
                name = choice.get("$ref", "").rpartition("/")[2]
                if name in _BODIES:
                    content["example"] = _BODIES[name]


def add_answers(paths: Mapping[str, Any], schemas: Mapping[str, Schema]) -> None:
    """Describe answers by what they are, where FastAPI says only that they are successful."""
    for methods in paths.values():
        for operation in methods.values():
            for response in operation["responses"].values():
                if response["description"] != "Successful Response":
                    continue
                ref = response.get("content", {}).get(_JSON, {}).get("schema", {}).get("$ref", "")
                text = schemas[ref.rpartition("/")[2]]["description"] if ref else "Done. The answer has no body."
                response["description"] = text.partition("\n\n")[0]


def is_nullable(value: Schema) -> bool:
    """Whether null is a value, too."""
    return {"type": "null"} in value.get("anyOf", ())


def is_exemplified(value: Schema) -> bool:
    """Whether a reader sees from the schema itself what the value may look like."""
    if value.keys() & {"examples", "const", "enum", "$ref", "default"} or value.get("format") == "date-time":
        return True
    if "anyOf" in value:
        return any(is_exemplified(each) for each in value["anyOf"] if each.get("type") != "null")
    return value.get("type") == "boolean" or ("items" in value and is_exemplified(value["items"]))
