"""Instrumentations of the OpenAI SDK, as they are on PyPI: each call that they see is billed once, and rightly."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metering.access.scopes import Role
from metering.lab.demo.upstream import create_upstream
from metering.lab.stripe_local.app import DroppingProtocol
from tests.emitter.sink import RunningServer
from tests.running_api import Api

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# The conventions as they are now, and the event that has all attributes of the span.
LATEST = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "EVENT_ONLY",
}
USED: dict[str, tuple[str, dict[str, str]]] = {
    "OpenTelemetry, the older conventions": ("opentelemetry", {}),
    "OpenTelemetry, spans and events": ("opentelemetry", LATEST),
    "OpenLLMetry": ("openllmetry", {}),
    "OpenInference": ("openinference", {}),
    "all three around each other": ("openllmetry,opentelemetry,openinference", {}),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with RunningServer(create_upstream(rate=1000), http=DroppingProtocol) as server:
        yield server.url


def run(api: Api, upstream: str, names: str, settings: dict[str, str]) -> list[dict[str, int]]:
    """Run the application; the usages that it got."""
    with api.client_with(Role.INGEST) as client:
        key = client.headers["authorization"]
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": api.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={key.replace(' ', '%20')}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=app,metering.customer_id=acme",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.use_otlp_instrumentation", names, upstream],
        cwd=ROOT,
        env={**os.environ, **telemetry, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    usages: list[dict[str, int]] = json.loads(done.stdout)
    return usages


@pytest.mark.parametrize("used", USED)
def test_each_call_is_billed_once_for_the_usage_that_the_upstream_reported(
    api: Api, upstream: str, used: str
) -> None:
    usages = run(api, upstream, *USED[used])
    api.finalize()
    charges: list[dict[str, Any]] = api.client.get("/v1/charges").json()["data"]
    assert Counter(each["outcome"] for each in charges) == {"completed": 2, "failed": 1}
    completed = [each for each in charges if each["outcome"] == "completed"]
    assert [each["usage"] for each in completed] == [
        {"input_tokens": each["input"], "output_tokens": each["output"]} for each in usages
    ]
    assert all(each["cost_usd_cents"] != "0" for each in completed)
    assert {(each["provider"], each["model"], each["inlet"]) for each in charges} == {("openai", "gpt-4o", "otlp")}
    (failed,) = (each for each in charges if each["outcome"] == "failed")
    assert failed["cost_usd_cents"] == "0"
    # What the stream without a usage used is unknown: a person is asked.
    (waiting,) = api.client.get("/v1/backlog").json()["data"]
    assert waiting["state"] == "unmeasured"
