"""An application that asks a model through the OpenAI SDK, as an instrumentation of OpenTelemetry sees it.

Run as `python -m tests.api.use_otlp_instrumentation NAMES UPSTREAM`. Where the telemetry goes is in the
environment, in the variables of OpenTelemetry's own SDK. Prints the usage that the SDK got, as JSON.
"""

import json
import sys
from typing import Any

import openai
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as OpenTelemetry
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

INSTRUMENTATIONS: dict[str, Any] = {
    "openinference": OpenInference,
    "openllmetry": OpenLLMetry,
    "opentelemetry": OpenTelemetry,
}
ASKED: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Tell me of a harbour"}],
    "max_tokens": 20,
}


def main(names: str, upstream: str) -> None:
    """Make four calls: whole, streamed, streamed without a usage, and one that fails."""
    traced, logged = TracerProvider(), LoggerProvider()
    traced.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logged.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    set_logger_provider(logged)
    for name in names.split(","):
        INSTRUMENTATIONS[name]().instrument(tracer_provider=traced, logger_provider=logged)
    client = openai.OpenAI(base_url=f"{upstream}/v1", api_key="sk", max_retries=0)
    usages = [client.chat.completions.create(**ASKED).usage]
    chunks = client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    usages += [chunk.usage for chunk in chunks if chunk.usage is not None]
    for _ in client.chat.completions.create(**ASKED, stream=True):
        continue
    try:
        client.chat.completions.create(**ASKED, extra_headers={"x-upstream-scenario": "status=429"})
    except openai.RateLimitError:
        traced.shutdown()
        logged.shutdown()
    print(json.dumps([{"input": each.prompt_tokens, "output": each.completion_tokens} for each in usages if each]))


if __name__ == "__main__":
    main(*sys.argv[1:])
