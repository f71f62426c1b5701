"""The exporters of OpenTelemetry's SDK, unchanged: what they send is billed, and an outage loses nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter as JsonLogExporter
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

from metering.access.scopes import Role
from tests.builders.otlp import CALL, CALL_EVENT
from tests.database import Database
from tests.database_proxy import proxied
from tests.running_api import Api, signed_in
from tests.waiting import eventually

pytestmark = pytest.mark.long

RESOURCE = Resource.create({"service.name": "gateway", "metering.customer_id": "acme"})
# The customer is the resource's.
ATTRIBUTES = {name: value for name, value in CALL.items() if name != "metering.customer_id"}


def headers(api: Api) -> dict[str, str]:
    with api.client_with(Role.INGEST) as client:
        return {"authorization": client.headers["authorization"]}


SPAN_EXPORTERS: dict[str, Callable[..., SpanExporter]] = {
    "protobuf": OTLPSpanExporter,
    "protobuf, gzip": lambda **more: OTLPSpanExporter(**more, compression=Compression.Gzip),
    "protobuf, deflate": lambda **more: OTLPSpanExporter(**more, compression=Compression.Deflate),
    "JSON": JsonSpanExporter,
}
LOG_EXPORTERS: dict[str, Callable[..., Any]] = {
    "protobuf": OTLPLogExporter,
    "protobuf, gzip": lambda **more: OTLPLogExporter(**more, compression=Compression.Gzip),
    "protobuf, deflate": lambda **more: OTLPLogExporter(**more, compression=Compression.Deflate),
    "JSON": JsonLogExporter,
}


@contextmanager
def tracing(exporter: SpanExporter) -> Iterator[Tracer]:
    """A tracer whose spans are exported when the block ends, at the latest."""
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    yield provider.get_tracer("tests")  # type: ignore[misc]
    provider.shutdown()


def charges(api: Api) -> list[dict[str, Any]]:
    api.finalize()
    found: list[dict[str, Any]] = api.client.get("/v1/charges").json()["data"]
    return found


@pytest.mark.parametrize("exporter", SPAN_EXPORTERS)
def test_spans_that_are_exported_are_billed(api: Api, exporter: str) -> None:
    made = SPAN_EXPORTERS[exporter](endpoint=f"{api.url}/v1/traces", headers=headers(api))
    with tracing(made) as tracer, tracer.start_as_current_span("GET /answer", kind=SpanKind.SERVER):
        for _ in range(3):
            with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT, attributes=ATTRIBUTES):
                tracer.start_span("POST", kind=SpanKind.CLIENT).end()
    found = charges(api)
    assert [(each["customer_id"], each["cost_usd_cents"], each["inlet"]) for each in found] == [
        ("acme", "0.4985", "otlp")
    ] * 3


@pytest.mark.parametrize("exporter", LOG_EXPORTERS)
def test_events_that_are_exported_are_billed(api: Api, exporter: str) -> None:
    made = LOG_EXPORTERS[exporter](endpoint=f"{api.url}/v1/logs", headers=headers(api))
    provider, tracers = LoggerProvider(resource=RESOURCE), TracerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(made))
    logger = provider.get_logger("tests")
    for name in (CALL_EVENT, CALL_EVENT, "gen_ai.choice"):
        with tracers.get_tracer("tests").start_as_current_span("chat"):
            attributes = {**ATTRIBUTES, "gen_ai.input.messages": [{"role": "user", "parts": ["hello"]}]}
            logger.emit(LogRecord(event_name=name, attributes=attributes, timestamp=1_795_446_000_000_000_000))
    provider.shutdown()
    assert [each["cost_usd_cents"] for each in charges(api)] == ["0.4985"] * 2


def test_an_attempt_that_failed_and_its_retry_are_linked(api: Api) -> None:
    made = OTLPSpanExporter(endpoint=f"{api.url}/v1/traces", headers=headers(api))
    asked = {name: value for name, value in ATTRIBUTES.items() if "usage" not in name}
    with tracing(made) as tracer, tracer.start_as_current_span("answer"):
        with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT, attributes=asked) as first:
            first.set_status(Status(StatusCode.ERROR, "RateLimitError: 429"))
        with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT, attributes=ATTRIBUTES):
            pass
    charges(api)
    found = sorted(charges(api), key=lambda each: str(each["outcome"]))
    assert [(each["outcome"], each["cost_usd_cents"]) for each in found] == [
        ("completed", "0.4985"),
        ("failed", "0"),
    ]
    assert found[0]["retry_of"] == found[1]["stream_id"]
    assert found[1]["retry_of"] is None


def test_while_the_database_is_away_exporters_try_again_and_nothing_is_lost_or_doubled(
    rated_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        proxied(rated_database) as (proxy, through),
        through.service(for_api=True) as service,
        signed_in(service) as api,
    ):
        known = headers(api)
        assert api.client_of(known["authorization"].removeprefix("Bearer ")).get("/readyz").status_code == 200
        proxy.silence(new_ones=True)
        assert eventually(lambda: api.client.get("/readyz").status_code == 503)
        results: list[SpanExportResult] = []
        exporting = threading.Thread(target=lambda: results.append(_export(api, known)))
        exporting.start()
        refused = api.client.post("/v1/traces", content=b"", headers={"content-type": "application/x-protobuf"})
        assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
        assert eventually(lambda: "Transient error" in caplog.text)
        proxy.speak()
        exporting.join(120)
        assert results == [SpanExportResult.SUCCESS]
        assert eventually(lambda: api.client.get("/readyz").status_code == 200)
        assert [each["cost_usd_cents"] for each in charges(api)] == ["0.4985"]


def _export(api: Api, known: dict[str, str]) -> SpanExportResult:
    """Send one span with a patience of two minutes."""
    exporter = OTLPSpanExporter(endpoint=f"{api.url}/v1/traces", headers=known, timeout=120)
    span = TracerProvider(resource=RESOURCE).get_tracer("tests").start_span("chat", attributes=ATTRIBUTES)
    span.end()
    return exporter.export([span])  # type: ignore[list-item]
